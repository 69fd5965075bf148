#!/bin/sh
# Metrics and an alarm with the AWS CLI. Prints one JSON object.
set -eu
run=cli-$$
export AWS_PAGER=""

aws cloudwatch put-metric-data --namespace Tests --metric-name Steps --dimensions "Run=$run" \
  --unit Count --value 5
aws cloudwatch put-metric-data --namespace Tests --metric-data \
  "MetricName=Steps,Unit=Count,Value=7,Dimensions=[{Name=Run,Value=$run}]"
sum=$(aws cloudwatch get-metric-statistics --namespace Tests --metric-name Steps \
  --dimensions "Name=Run,Value=$run" --statistics Sum --period 3600 \
  --start-time "$(date -u -d '-30 minutes' +%FT%TZ)" \
  --end-time "$(date -u -d '+5 minutes' +%FT%TZ)" --query 'Datapoints[0].Sum' --output text)
listed=$(aws cloudwatch list-metrics --namespace Tests --dimensions "Name=Run,Value=$run" \
  --query 'length(Metrics)')

aws cloudwatch put-metric-alarm --alarm-name "$run" --namespace Tests --metric-name Steps \
  --dimensions "Name=Run,Value=$run" --statistic Sum --period 60 --evaluation-periods 1 \
  --threshold 1 --comparison-operator GreaterThanThreshold --treat-missing-data ignore
aws cloudwatch set-alarm-state --alarm-name "$run" --state-value ALARM --state-reason "a test"
state=$(aws cloudwatch describe-alarms --alarm-names "$run" \
  --query 'MetricAlarms[0].StateValue' --output text)
aws cloudwatch describe-alarm-history --alarm-name "$run" >&2
aws cloudwatch delete-alarms --alarm-names "$run"
printf '{"sum": %s, "state": "%s", "listed": %s}\n' "$sum" "$state" "$listed"
