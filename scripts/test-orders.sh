#!/usr/bin/env bash
# Posts sample orders to a running endpoint and checks every answer, then waits until every accepted order is stored
# with the right total. Exits non-zero at the first mismatch, saying what was expected and what came.
#
#   scripts/test-orders.sh http://127.0.0.1:8080
#   scripts/test-orders.sh https://abc123.execute-api.eu-west-1.amazonaws.com
#
# Needs bash and curl (7.88 or newer to sign). How it authenticates:
#   TOKEN=...    sends it as a bearer token (an API with a JWT authorizer)
#   SIGN=aws     signs with SigV4 from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if set, AWS_SESSION_TOKEN, for
#                AWS_REGION (else AWS_DEFAULT_REGION, else the region in the host name)
#   SIGN=none    sends requests as they are
# With neither, it signs when the host is an execute-api one and AWS_ACCESS_KEY_ID is set. Credentials of a profile:
#   eval "$(aws configure export-credentials --format env)"
# WAIT_S (60): how many seconds accepted orders may take to be stored.
set -euo pipefail

main() {
  base_url=${1:-}
  [[ $# -eq 1 && $base_url =~ ^https?:// ]] || usage
  base_url=${base_url%/}
  wait_s=${WAIT_S:-60}
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  run=$(date +%s)-$$-$RANDOM # makes the keys of this run fresh
  checks=0
  stored=() # "what|status_url|total" of every accepted order, once an id
  authenticate

  printf 'Testing %s, %s.\n\n%-52s %s\n' "$base_url" "$authentication" 'request' 'answer'
  good_orders
  batches
  resends
  bad_orders
  unknown_things
  printf '\n%-30s %-42s %-10s %12s\n' 'order' 'id' 'status' 'total'
  wait_until_stored
  resends_changed_nothing
  printf '\n%d checks passed; %d orders accepted, all stored with the right totals.\n' "$checks" "${#stored[@]}"
}

usage() {
  echo "usage: [TOKEN=... | SIGN=aws | SIGN=none] $0 BASE_URL     (such as http://127.0.0.1:8080)" >&2
  exit 2
}

# --- what is sent, and what must come back -----------------------------------

good_orders() {
  accepted 'two keyboards, EUR' 79.80 "$(order EUR "$(line KB-104 2 39.90)")"
  accepted 'three dimes, USD' 0.30 "$(order USD "$(line DIME 3 0.10)")" # 0.30000000000000004 in floats
  accepted 'many lines, CHF' 1234.55 "$(order CHF "$(line A 1 0.05),$(line B 9 123.45),$(line C 1 123.45)")"
  accepted 'no decimals, JPY' 4500 "$(order JPY "$(line BENTO 3 1500)")"
  accepted 'ten thousand, GBP' 199900.00 "$(order GBP "$(line BULK 10000 19.99)")"
  accepted 'with the total shown, EUR' 119.70 "$(order EUR "$(line KB-104 3 39.9)" '"119.70"')"
}

batches() {
  local good
  good=$(order EUR "$(line CUP 2 4.25)")
  post "[$good,$(order USD "$(line MUG 1 7.00)"),$(order EUR "$(line BAD 0 1.00)"),$good]"
  expect 'batch of four, the third bad' 202
  has '"rejected":[{"index":2,' '"pointer":"#/lines/0/quantity"'
  batch_accepted 0 8.50 1 7.00 3 8.50

  post "[$(order EUR "$(line BAD 1 free)")]"
  expect 'batch with nothing good' 422
  has '"accepted":[]' '"pointer":"#/lines/0/unit_price"'

  post '[]'
  expect 'empty batch' 422
  problem 422
}

resends() {
  local first body batch ids
  body=$(order EUR "$(line CART 1 84.17)")
  post "$body" "Idempotency-Key: \"cart-$run\""
  expect 'order with an Idempotency-Key' 202
  first=$(json id)
  keep 'sent twice under one key' 84.17
  resent_url=/orders/$first
  await_stored "$resent_url" 84.17
  resent_record=$(cat "$work/body")
  post "$body" "Idempotency-Key: \"cart-$run\""
  expect 'the same again' 202
  equal 'id of the resend' "$first" "$(json id)"
  post "$body" "Idempotency-Key: cart-$run"
  expect 'the same again, the key without quotes' 202
  equal 'id of the resend' "$first" "$(json id)"
  post "$body" "Idempotency-Key: \"other-$run\""
  expect 'the same order under another key' 202
  [[ $(json id) != "$first" ]] || mismatch 'id under another key' "another than $first" "$(json id)"
  keep 'sent under another key' 84.17

  batch="[$body,$(order EUR "$(line CART 2 84.17)")]"
  post "$batch" "Idempotency-Key: \"batch-$run\""
  expect 'batch with an Idempotency-Key' 202
  ids=$(cat "$work/body")
  batch_accepted 0 84.17 1 168.34
  post "$batch" "Idempotency-Key: \"batch-$run\""
  expect 'the same batch again' 202
  equal 'answer to the resent batch' "$ids" "$(cat "$work/body")"
}

bad_orders() {
  local good
  good=$(order EUR "$(line KB-104 2 39.90)")
  refused 'malformed JSON' 400 '{"customer": '
  refused 'not JSON at all' 400 'two keyboards, please'
  refused 'empty body' 400 ''
  refused 'unknown field' 422 "${good%\}},\"coupon\":\"FREE\"}" '#/coupon'
  refused 'missing field' 422 '{"customer":{"email":"ana@example.com","name":"Ana"},"currency":"EUR"}' \
    '#/lines' '#/shipping_address'
  refused 'quantity zero' 422 "$(order EUR "$(line KB-104 0 39.90)")" '#/lines/0/quantity'
  refused 'quantity as text' 422 "$(order EUR "$(line KB-104 '"2"' 39.90)")" '#/lines/0/quantity'
  refused 'price as a float' 422 "$(order EUR '{"sku":"KB-104","quantity":2,"unit_price":39.9}')" '#/lines/0/unit_price'
  refused 'no lines' 422 "$(order EUR '')" '#/lines'
  refused 'unknown currency' 422 "$(order DOGE "$(line KB-104 1 1.00)")" '#/currency'
  refused 'wrong total' 422 "$(order EUR "$(line KB-104 2 39.90)" '"79.81"')" '#/total'
  refused 'cents of a yen' 422 "$(order JPY "$(line BENTO 1 10),$(line BENTO 1 10.50)")" '#/lines/1/unit_price'
  refused 'three faults at once' 422 "$(order DOGE "$(line KB-104 0 39.90),$(line 'no spaces' 1 1.00)")" \
    '#/currency' '#/lines/0/quantity' '#/lines/1/sku'
  refused 'too large' 413 "$(order EUR "$(line "$(head -c 300000 /dev/zero | tr '\0' x)" 1 1.00)")"

  post "$good" 'Content-Type: text/plain'
  expect 'wrong content type' 415
  problem 415
  post "$good" 'Idempotency-Key: "not closed'
  expect 'malformed Idempotency-Key' 400
  problem 400
  post "$good" 'Idempotency-Key: ""'
  expect 'empty Idempotency-Key' 400
  problem 400
}

unknown_things() {
  request POST /nosuchworkload '{}'
  expect 'unknown workload' 404
  problem 404
  get "/orders/no-such-order-$run"
  expect 'unknown id' 404
  problem 404
}

# --- samples ------------------------------------------------------------------

order() { # CURRENCY LINES [TOTAL as JSON]
  printf '{"customer":{"email":"ana@example.com","name":"Ana Ruiz Łódź 雪"},"currency":"%s","lines":[%s],%s%s}' \
    "$1" "$2" "${3:+\"total\":$3,}" \
    '"shipping_address":{"line1":"1 Main Street","city":"Dublin","postal_code":"D01 F5P2","country":"IE"}'
}

line() { # SKU QUANTITY UNIT_PRICE
  printf '{"sku":"%s","quantity":%s,"unit_price":"%s"}' "$1" "$2" "$3"
}

# --- a good order, a bad one --------------------------------------------------

accepted() { # WHAT TOTAL BODY
  post "$3"
  expect "$1" 202
  keep "$1" "$2"
}

refused() { # WHAT STATUS BODY [POINTER...]
  post "$3"
  expect "$1" "$2"
  problem "$2" "${@:4}"
}

keep() { # WHAT TOTAL: checks the answer to a single order and remembers it
  local id
  id=$(json id)
  [[ $id =~ ^[A-Za-z0-9._~-]{1,64}$ ]] || mismatch 'id' 'at most 64 URL-safe characters' "$id"
  equal 'status_url' "/orders/$id" "$(json status_url)"
  equal 'Location' "/orders/$id" "$(header location)"
  equal 'content-type' 'application/json' "$(header content-type)"
  stored+=("$1|/orders/$id|$2")
}

batch_accepted() { # INDEX TOTAL [INDEX TOTAL...]: the entries that a batch accepted are these, in this order
  local rest entry='\{"index":([0-9]+),"id":"([^"]+)","status_url":"([^"]+)"\}'
  rest=$(cat "$work/body")
  rest=${rest%%\"rejected\":*}
  while [[ $# -gt 0 ]]; do
    [[ $rest =~ $entry ]] || mismatch 'accepted' "an entry with index $1, id and status_url" "$rest"
    equal 'index' "$1" "${BASH_REMATCH[1]}"
    equal 'status_url' "/orders/${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"
    stored+=("entry $1 of a batch|${BASH_REMATCH[3]}|$2")
    rest=${rest#*"${BASH_REMATCH[0]}"}
    shift 2
  done
  [[ ! $rest =~ $entry ]] || mismatch 'accepted' 'no further entry' "${BASH_REMATCH[0]}"
}

problem() { # STATUS [POINTER...]: the answer is a problem, and names each of these fields
  local pointer
  equal 'content-type' 'application/problem+json' "$(header content-type)"
  equal 'status in the problem' "$1" "$(json status)"
  has '"title":' '"detail":'
  for pointer in "${@:2}"; do
    has "\"pointer\":\"$pointer\""
  done
}

# --- until all are stored -----------------------------------------------------

wait_until_stored() {
  local entry what url total
  for entry in "${stored[@]}"; do
    IFS='|' read -r what url total <<<"$entry"
    await_stored "$url" "$total"
    printf '%-30s %-42s %-10s %12s\n' "$what" "${url##*/}" "$(json status)" "$(json total) $(json currency)"
  done
}

await_stored() { # STATUS_URL TOTAL: polls while the order is queued, or not known yet as in a stack without IdKeys
  local deadline=$((SECONDS + wait_s))
  while :; do
    get "$1"
    [[ $code == 404 || ($code == 200 && $(json status) == queued) ]] || break
    ((SECONDS < deadline)) || mismatch "order at $1" "stored within $wait_s s" 'not stored'
    sleep 0.2
  done
  equal "answer of GET $1" 200 "$code"
  equal "status of $1" processed "$(json status)"
  equal "total of $1" "$2" "$(json total)"
  equal "id of $1" "${1##*/}" "$(json id)"
}

resends_changed_nothing() { # by now the later orders are stored, so the resends have long been delivered
  get "$resent_url"
  equal 'record of the order that was sent three times' "$resent_record" "$(cat "$work/body")"
}

# --- requests -----------------------------------------------------------------

authenticate() { # writes a configuration for curl, so that no secret shows in a list of processes
  local host=${base_url#*://} region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}} sign=${SIGN:-}
  base_path=''
  signs=''
  [[ $host != */* ]] || base_path=/${host#*/}
  host=${host%%/*}
  : >"$work/curlrc"
  chmod 600 "$work/curlrc"
  authentication='without authentication'
  if [[ -n ${TOKEN:-} ]]; then
    printf 'header = "Authorization: Bearer %s"\n' "$TOKEN" >"$work/curlrc"
    authentication='with a bearer token'
    return
  fi
  if [[ -z $sign && $host == *.execute-api.*.amazonaws.com* && -n ${AWS_ACCESS_KEY_ID:-} ]]; then
    sign=aws
  fi
  case $sign in
    aws) ;;
    '' | none) return ;;
    *) usage ;;
  esac
  if [[ -z $region && $host =~ \.execute-api\.([a-z0-9-]+)\.amazonaws\.com ]]; then
    region=${BASH_REMATCH[1]}
  fi
  [[ -n $region ]] || die 'set AWS_REGION: the signature names the region'
  [[ -n ${AWS_ACCESS_KEY_ID:-} && -n ${AWS_SECRET_ACCESS_KEY:-} ]] ||
    die 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: they sign the requests'
  {
    printf 'aws-sigv4 = "aws:amz:%s:execute-api"\n' "$region"
    printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
    [[ -z ${AWS_SESSION_TOKEN:-} ]] || printf 'header = "x-amz-security-token: %s"\n' "$AWS_SESSION_TOKEN"
  } >"$work/curlrc"
  signs=yes
  authentication="signed with SigV4 for $region"
}

post() { request POST /orders "$@"; } # BODY [HEADER...]

get() { request GET "$1"; }

request() { # METHOD PATH [BODY [HEADER...]]: leaves the status in $code, headers and body in files
  local header arguments=(--request "$1")
  if [[ $1 == POST ]]; then
    printf '%s' "$3" >"$work/request"
    arguments+=(--data-binary "@$work/request")
    [[ "${*:4}" == *Content-Type:* ]] || arguments+=(--header 'Content-Type: application/json')
    for header in "${@:4}"; do
      arguments+=(--header "$header")
    done
  fi
  call "$base_url$2" "${arguments[@]}"
  if [[ $code == 403 && -n $signs && $2 == *@* ]]; then
    # AWS signs a path percent-encoded, as newer curls do. An older one (7.88) signs the URL as it is given: so it is
    # given the encoded one, and asks for the other.
    call "$base_url${2//@/%40}" "${arguments[@]}" --request-target "$base_path$2"
  fi
}

call() { # URL ARGUMENT...
  code=$(curl --silent --show-error --max-time 30 --config "$work/curlrc" --dump-header "$work/headers" \
    --output "$work/body" --write-out '%{http_code}' "${@:2}" "$1") ||
    die "cannot reach $1"
}

# --- checks -------------------------------------------------------------------

expect() { # WHAT STATUS
  [[ $code == "$2" ]] || mismatch "$1" "$2" "$code"
  checks=$((checks + 1))
  printf '%-52s %s\n' "$1" "$code"
}

equal() { # WHAT EXPECTED GOT
  [[ $2 == "$3" ]] || mismatch "$1" "$2" "$3"
  checks=$((checks + 1))
}

has() { # TEXT...: the body has each of them
  local text body
  body=$(cat "$work/body")
  for text in "$@"; do
    [[ $body == *"$text"* ]] || mismatch 'body' "$text" 'not in it'
    checks=$((checks + 1))
  done
}

json() { # NAME: the first member of that name, text or number, or nothing; the functions answer in compact JSON
  local body
  body=$(cat "$work/body")
  [[ ! $body =~ \"$1\":\"?([^\",}]*) ]] || printf '%s' "${BASH_REMATCH[1]}"
}

header() { # NAME: its value; names compare without case
  local name value
  while IFS=: read -r name value; do
    if [[ $(printf '%s' "$name" | tr '[:upper:]' '[:lower:]') == "$1" ]]; then
      value=${value%$'\r'}
      printf '%s' "${value# }"
      return
    fi
  done <"$work/headers"
}

mismatch() { # WHAT EXPECTED GOT
  printf '\nMISMATCH in %s\n  expected: %s\n  got:      %s\n  answer:   %s %s\n' \
    "$1" "$2" "$3" "$code" "$(head -c 1000 "$work/body")" >&2
  exit 1
}

die() {
  echo "$0: $1" >&2
  exit 1
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@" # test-workloads.sh uses what stands above
