"""EventBridge: rules, schedules, targets and event buses."""
