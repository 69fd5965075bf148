#!/bin/sh
# What a person types with the AWS CLI: a rule on own events with a log group as its target, a
# schedule. Prints the details of the logged events, as JSON.
set -eu
name=events-cli-$$
export AWS_PAGER=""
events() { aws events "$@"; }
account=$(aws sts get-caller-identity --query Account --output text)
group="/aws/events/$name"

events put-rule --name "$name" --description "orders" \
  --event-pattern '{"source":["my.shop"],"detail":{"total":[{"numeric":[">=",10]}]}}' \
  --tags Key=team,Value=blue >&2
events put-targets --rule "$name" --targets \
  "Id=logs,Arn=arn:aws:logs:$AWS_DEFAULT_REGION:$account:log-group:$group,InputPath=\$.detail" >&2
events put-events --entries \
  '[{"Source":"my.shop","DetailType":"order","Detail":"{\"total\": 12}"},
    {"Source":"my.shop","DetailType":"order","Detail":"{\"total\": 9}"},
    {"Source":"aws.shop","DetailType":"order","Detail":"{\"total\": 11}"}]' >&2

found='[]'
for _ in 1 2 3 4 5 6 7 8 9 10; do
  found=$(aws logs filter-log-events --log-group-name "$group" --query 'events[].message' || true)
  [ "$found" = '[]' ] || [ -z "$found" ] || break
  sleep 0.3
done

events test-event-pattern --event-pattern '{"source":["my.shop"]}' --event \
  '{"id":"1","account":"1","source":"my.shop","time":"2026-01-01T00:00:00Z","region":"us-east-1","resources":[],"detail-type":"order","detail":{}}' >&2
events put-rule --name "$name-daily" --schedule-expression 'cron(0 8 ? * MON-FRI *)' --state DISABLED >&2
events list-rules --name-prefix "$name" --query 'Rules[].[Name,State]' --output text >&2
if events delete-rule --name "$name" >&2; then
  exit 1 # it has targets
fi
events remove-targets --rule "$name" --ids logs >&2
events delete-rule --name "$name"
events delete-rule --name "$name-daily"
echo "$found" | tr -d '\n '
