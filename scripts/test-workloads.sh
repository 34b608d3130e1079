#!/usr/bin/env bash
# Posts samples of every workload to a running endpoint that serves all of them, and checks every answer and what came
# of it: balances, roll-ups, one account an address, notifications delivered or refused. Exits non-zero at the first
# mismatch.
#
#   make run ARGS="--workloads orders,transactions,registrations,readings,notifications"
#   scripts/test-workloads.sh http://127.0.0.1:8080
#
# It authenticates and waits as test-orders.sh does; that one checks the orders. What leaves the system is checked if
# there is somewhere to go to:
#   WEBHOOK_SINK=http://127.0.0.1:9000/   takes webhooks, and the server trusts it (WEBHOOK_TRUSTED_HOSTS=127.0.0.1)
#   MAIL_TO=me@example.com                takes e-mail, and the server can send it (SMTP_URL, MAIL_FROM)
# shellcheck source=scripts/test-orders.sh
. "$(dirname "${BASH_SOURCE[0]}")/test-orders.sh"

samples() {
  base_url=${1:-}
  [[ $# -eq 1 && $base_url =~ ^https?:// ]] || usage
  base_url=${base_url%/}
  wait_s=${WAIT_S:-60}
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  run=$(date +%s)-$$-$RANDOM # makes the accounts, addresses and devices of this run fresh
  checks=0
  authenticate

  printf 'Testing %s, %s.\n\n' "$base_url" "$authentication"
  transactions
  registrations
  readings
  notifications
  printf '\n%d checks passed.\n' "$checks"
}

# --- transactions ---------------------------------------------------------------

transactions() {
  local bank=bank-$run ana=ana-$run ben=ben-$run
  headline 'transactions'
  processed 'open an account that may owe 1000' transactions "$(account "$bank" 1000)"
  processed 'open an account' transactions "$(account "$ana")"
  rejected 'open it again' transactions "$(account "$ana" 50)" "account $ana.EUR is open already"
  processed 'transfer 79.85' transactions "$(transfer "$bank" "$ana" 79.85)"
  rejected 'transfer more than there is' transactions "$(transfer "$ana" "$bank" 79.86)" "insufficient funds in $ana.EUR"
  rejected 'transfer to nobody' transactions "$(transfer "$ana" "$ben" 1.00)" "there is no account $ben.EUR"
  processed 'transfer 0.10 under a key' transactions "$(transfer "$ana" "$bank" 0.10)" "Idempotency-Key: \"$run\""
  processed 'the same again' transactions "$(transfer "$ana" "$bank" 0.10)" "Idempotency-Key: \"$run\""
  refused_at 'a tenth of a cent' transactions "$(transfer "$ana" "$bank" 0.001)" '#/amount'
  refused_at 'an unknown kind' transactions '{"kind":"close"}' '#/kind'
  item "/transactions/balances/$ana.EUR" '"balance":79.75,' '"available":79.75'
  item "/transactions/balances/$bank.EUR" '"balance":-79.75,' '"available":920.25'
}

account() { # NAME [OVERDRAFT]
  printf '{"kind":"open","account":"%s","currency":"EUR","overdraft":"%s"}' "$1" "${2:-0}"
}

transfer() { # FROM TO AMOUNT
  printf '{"kind":"transfer","from_account":"%s","to_account":"%s","currency":"EUR","amount":"%s"}' "$1" "$2" "$3"
}

# --- registrations ----------------------------------------------------------------

registrations() {
  local urls
  headline 'registrations'
  processed 'register' registrations "$(person "ana.$run@example.com")"
  welcome=$(json welcome_url)
  rejected 'register in capitals' registrations "$(person "ANA.$run@EXAMPLE.COM")" 'this address is registered already'
  processed 'register another address' registrations "$(person "ana.$run+shop@example.com")"

  request POST /registrations "[$(person "ben.$run@example.com"),$(person "Ben.$run@example.com")]"
  expect 'two of one address at once' 202
  urls=$(status_urls)
  equal 'what came of both' 'processed rejected' "$(for url in $urls; do
    await "$url"
    json status
    echo
  done | sort | xargs)"
  request GET "/registrations/addresses/ana.$run@example.com"
  expect 'whether an address exists' 404
}

person() { # EMAIL
  printf '{"email":"%s","name":"Ana Ruiz"}' "$1"
}

# --- readings -----------------------------------------------------------------------

readings() {
  local device=pump-$run batch='' minute
  headline 'readings'
  for minute in {1..301}; do
    batch+=",$(reading "$device" "2026-11-23T10:$((minute / 60)):$((minute % 60))" "$minute.25")"
  done
  request POST /readings "[${batch#,}]"
  expect '301 readings in one request' 202
  await_item "/readings/hourly/$device.2026-11-23T10" '"count":301'
  request POST /readings "[${batch#,}]"
  expect 'all of them again' 202
  processed 'a reading of the hour before, late' readings "$(reading "$device" 2026-11-23T09:59:59 -7.5)"
  item "/readings/hourly/$device.2026-11-23T10" '"count":301' '"sum":45526.25' '"min":1.25' '"max":301.25'
  item "/readings/hourly/$device.2026-11-23T09" '"count":1' '"sum":-7.5' '"min":-7.5' '"max":-7.5'
  refused_at 'a reading that is no number' readings "$(reading "$device" 2026-11-23T10:00:00 NaN)" '#/value'
}

reading() { # DEVICE TIME VALUE
  local date=${2%T*} hour minute second
  IFS=: read -r hour minute second <<<"${2#*T}"
  printf '{"device":"%s","at":"%sT%02d:%02d:%02dZ","value":"%s"}' \
    "$1" "$date" "$((10#$hour))" "$((10#$minute))" "$((10#$second))" "$3"
}

# --- notifications ------------------------------------------------------------------

notifications() {
  local urls
  headline 'notifications'
  rejected 'to the metadata service' notifications "$(notification "$(webhook http://169.254.169.254/latest)")" 'only https'
  rejected 'to a private address' notifications "$(notification "$(webhook https://10.0.0.1/)")" 'not a public address'
  refused_at 'to a URL with a password' notifications "$(notification "$(webhook https://a:b@example.com/)")" '#/to/0/url'
  if [[ -n ${WEBHOOK_SINK:-} ]]; then
    processed 'to a webhook' notifications "$(notification "$(webhook "$WEBHOOK_SINK")")"
    has '"http_status":2'
    processed 'to a webhook and to a private address' notifications \
      "$(notification "$(webhook "$WEBHOOK_SINK"),$(webhook https://10.0.0.1/)")"
    urls=$(grep -o '/notifications/[0-9a-f]\{40\}' "$work/body" | xargs)
    await "${urls% *}"
    equal 'the first of them' processed "$(json status)"
    await "${urls#* }"
    equal 'the second of them' rejected "$(json status)"
  else
    printf '  %-50s %s\n' 'to a webhook' 'not tried: set WEBHOOK_SINK'
  fi
  if [[ -n ${MAIL_TO:-} ]]; then
    processed 'by e-mail' notifications "$(notification "{\"kind\":\"email\",\"address\":\"$MAIL_TO\"}")"
    await "$welcome"
    equal 'the welcome of the registration' processed "$(json status)"
  else
    request GET "$welcome"
    printf '  %-50s %s\n' 'the welcome of the registration' "$(json status) (not awaited: set MAIL_TO)"
  fi
}

notification() { # RECIPIENTS
  printf '{"to":[%s],"type":"order.shipped","subject":"On its way","text":"It comes tomorrow."}' "$1"
}

webhook() { # URL
  printf '{"kind":"webhook","url":"%s"}' "$1"
}

# --- what comes of an entry -----------------------------------------------------------

processed() { # WHAT WORKLOAD ENTRY [HEADER...]
  ends_as processed "$1" "$2" "$3" "${@:4}"
}

rejected() { # WHAT WORKLOAD ENTRY REASON
  ends_as rejected "$1" "$2" "$3"
  has "$4"
}

ends_as() { # STATUS WHAT WORKLOAD ENTRY [HEADER...]
  request POST "/$3" "$4" "${@:5}"
  [[ $code == 202 ]] || mismatch "$2" 202 "$code"
  await "$(json status_url)"
  equal "$2" "$1" "$(json status)"
  printf '  %-50s %s\n' "$2" "$1"
}

refused_at() { # WHAT WORKLOAD ENTRY POINTER
  request POST "/$2" "$3"
  [[ $code == 422 ]] || mismatch "$1" 422 "$code"
  problem 422 "$4"
  printf '  %-50s %s\n' "$1" "refused at $4"
}

await() { # STATUS_URL: polls while the message is queued, or not known yet as on AWS
  local deadline=$((SECONDS + wait_s))
  while :; do
    request GET "$1"
    [[ $code == 404 || ($code == 200 && $(json status) == queued) ]] || break
    ((SECONDS < deadline)) || mismatch "$1" "ended within $wait_s s" 'not ended'
    sleep 0.1
  done
  equal "answer of GET $1" 200 "$code"
}

await_item() { # PATH TEXT: polls until the item has it
  local deadline=$((SECONDS + wait_s))
  while :; do
    request GET "$1"
    [[ $code != 200 || $(cat "$work/body") != *"$2"* ]] || break
    ((SECONDS < deadline)) || mismatch "$1" "$2 within $wait_s s" 'not yet'
    sleep 0.1
  done
}

item() { # PATH TEXT...
  request GET "$1"
  [[ $code == 200 ]] || mismatch "$1" 200 "$code"
  has "${@:2}"
  printf '  %-50s %s\n' "${1##*/}" "$(cat "$work/body")"
}

status_urls() { # of every accepted entry of a batch
  grep -o '"status_url":"[^"]*"' "$work/body" | cut -d '"' -f 4
}

expect() { # WHAT STATUS
  equal "$1" "$2" "$code"
  printf '  %-50s %s\n' "$1" "$code"
}

headline() {
  printf '%s\n' "$1"
}

samples "$@"
