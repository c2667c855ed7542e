# The cells of the matrix. Sourced by run; each adds lines to $results:
#   section <tab> peer and version <tab> draft <tab> case <tab> passed|failed|not run <tab> what was seen

record() { printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$@" >>"$results"; }

# Waits until `pattern` stands in `file`; fails after 20 s or when the process is gone.
await() {
    local pattern=$1 file=$2 process=$3 deadline=$((SECONDS + 20))
    until grep -qE "$pattern" "$file"; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$process" 2>/dev/null; then
            say "no '$pattern' from process $process:"
            tail -20 "$file" >&2
            return 1
        fi
        sleep 0.1
    done
}

# Whether a peer is there; if not, its line says why.
have() {
    local section=$1 name=$2 label=$3 reason=$peers/not-run/${4:-$2}
    [ -e "$reason" ] || return 0
    record "$section" "$label" - "$name" "not run" "$(cat "$reason")"
    return 1
}

start() {
    local log=$1
    shift
    # It is there before anyone looks into it.
    : >"$log"
    "$@" >"$log" 2>&1 &
    child=$!
    children+=("$child")
}

stop_child() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

certificate() {
    # A certificate of this run's own.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 \
        -keyout "$work/key.pem" -out "$work/certificate.pem" 2>/dev/null
}

# Our relay with these options, too; sets url, admin, sha256 and relay_process.
our_relay() {
    start "$work/relay" "$relay" --listen 127.0.0.1:0 --dev-cert --open --admin 127.0.0.1:0 "$@"
    relay_process=$child
    await 'listening on' "$work/relay" "$child"
    admin=$(sed -n 's/.*admin on \(http[^ ]*\).*/\1/p' "$work/relay" | head -1)
    url=moqt://$(sed -n 's/.*listening on \([0-9.:]*\) .*/\1/p' "$work/relay" | head -1)
    sha256=$(grep -oE '[0-9a-f]{64}' "$work/relay" | head -1)
    say "our relay at $url"
}

# Waits until somebody publishes a namespace at our relay; fails after 20 s.
await_namespace() {
    local deadline=$((SECONDS + 20)) published
    until published=$(curl -s "$admin/metrics" | sed -n 's/^aip_namespaces //p') &&
        [ "${published:-0}" -ge 1 ]; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

# The same relay by WebTransport.
webtransport() { printf 'https://%s/' "${1#moqt://}"; }

stop_relay() { stop_child "$relay_process"; }

# Lines of TAP on stdin as cells.
tap() {
    local section=$1 label=$2 draft=$3
    awk -v section="$section" -v label="$label" -v draft="$draft" '
        function flush() {
            sub(/^ +[a-z]+: */, "", seen); seen = substr(seen, 1, 300)
            if (name != "") printf "%s\t%s\t%s\t%s\t%s\t%s\n", section, label, draft, name, verdict, seen
            name = ""; seen = ""
        }
        /^ok / || /^not ok / {
            flush()
            verdict = /^ok/ ? "passed" : "failed"
            if (/# SKIP/) verdict = "not run"
            # In steps: some versions of awk misread an optional group in the midst of others.
            name = $0; sub(/^not /, "", name); sub(/^ok */, "", name); sub(/^[0-9]+ */, "", name)
            sub(/^- */, "", name); sub(/ *#.*/, "", name)
            sub(/ .*/, "", name)
        }
        # What came says more than what was meant.
        /^ +(message|error|reason):/ && verdict == "failed" && seen == "" { seen = $0 }
        /^ +received:/ && verdict == "failed" { seen = $0 }
        END { flush() }'
}

moq_test_client() {
    local section="their clients, our relay" at=$1 label="moq-test-client 0.2.0$2"
    have "$section" moq-test-client "$label" || return 0
    say "moq-test-client, draft 18$2"
    timeout 300 "$peers/bin/moq-test-client" --relay "$at" --tls-disable-verify \
        >"$work/cases" 2>"$work/cases.log" || true
    tap "$section" "$label" 18 <"$work/cases" >>"$results"
    local passed failed
    passed=$(grep -c '^ok ' "$work/cases" || true)
    failed=$(grep -c '^not ok ' "$work/cases" || true)
    say "moq-test-client: $passed of $((passed + failed)) passed"
    if [ "$((passed + failed))" -ne 18 ]; then
        record "$section" "$label" 18 all-18-cases failed "$((passed + failed)) of 18 cases were run"
    fi
}

clock() {
    local section="their clients, our relay" label="moq-clock-ietf 0.6.25"
    have "$section" moq-clock-ietf "$label" || return 0
    say "moq-clock-ietf, publisher and subscriber"
    start "$work/publisher" "$peers/bin/moq-clock-ietf" --tls-disable-verify --publish \
        --namespace clock "$url"
    local publisher=$child
    # The subscriber gives up if nobody publishes yet.
    await_namespace || say "moq-clock-ietf publishes nothing"
    # Ticks go to stdout, the log to stderr. The file is there before it is looked into.
    : >"$work/ticks"
    "$peers/bin/moq-clock-ietf" --tls-disable-verify --namespace clock "$url" \
        >"$work/ticks" 2>"$work/subscriber" &
    local subscriber=$! deadline=$((SECONDS + 30)) ticks=0
    children+=("$subscriber")
    while [ "$ticks" -lt 3 ] && [ "$SECONDS" -lt "$deadline" ] && kill -0 "$subscriber" 2>/dev/null
    do
        ticks=$(grep -cE '[0-9]{2}:[0-9]{2}:[0-9]{2}' "$work/ticks" || true)
        sleep 0.2
    done
    head -3 "$work/ticks"
    say "moq-clock-ietf: $ticks ticks arrived"
    if [ "$ticks" -ge 3 ]; then
        record "$section" "$label" 18 ticks passed "ticks arrived"
    else
        record "$section" "$label" 18 ticks failed "$(tail -1 "$work/subscriber")"
    fi
    stop_child "$subscriber"
    stop_child "$publisher"
}

aiomoqt_suite() {
    local section="their clients, our relay" at=$1 draft
    local label="moq-interop-client (aiomoqt 0.13.3)$2"
    have "$section" moq-interop-client "$label" aiomoqt || return 0
    for draft in $drafts; do
        say "moq-interop-client, draft $draft$2"
        timeout 300 "$peers/aiomoqt/bin/moq-interop-client" -r "$at" --tls-disable-verify \
            --draft "$draft" >"$work/cases" 2>"$work/cases.log" || true
        for case in fetch join; do
            grep -qE "^(not )?ok [0-9]+ *-? *$case( |$)" "$work/cases" ||
                timeout 60 "$peers/aiomoqt/bin/moq-interop-client" -r "$at" \
                    --tls-disable-verify --draft "$draft" -t "$case" \
                    >>"$work/cases" 2>>"$work/cases.log" || true
        done
        tap "$section" "$label" "$draft" <"$work/cases" >>"$results"
        say "moq-interop-client, draft $draft: $(grep -c '^ok ' "$work/cases") of \
$(grep -cE '^(not )?ok ' "$work/cases") passed"
    done
}

# A figure of moq-sub-bench's report, without its commas.
bench_figure() { sed -nE "s/^ *$1: +([0-9,]+).*/\\1/p" "$2" | tr -d , | tail -1; }

# A publisher and a subscriber of aiomoqt's for some seconds; passes if objects arrive and the
# subscriber says that none was lost.
bench_cell() {
    local section=$1 label=$2 at=$3 draft=$4 name=$5
    shift 5
    local namespace=bench-$draft-$name
    start "$work/publisher" "$peers/aiomoqt/bin/moq-pub-bench" "$at" -k --draft "$draft" \
        -N "$namespace" -T t -r 50 --pub-ns -t 12 "$@"
    local publisher=$child
    if ! await 'waiting for subscriber' "$work/publisher" "$publisher"; then
        record "$section" "$label" "$draft" "$name" failed "$(tail -1 "$work/publisher")"
        stop_child "$publisher"
        return
    fi
    timeout 40 "$peers/aiomoqt/bin/moq-sub-bench" "$at" -k --draft "$draft" -N "$namespace" \
        -T t -t 6 >"$work/subscriber" 2>&1 || true
    stop_child "$publisher"
    local objects lost
    objects=$(bench_figure Objects "$work/subscriber")
    lost=$(bench_figure Lost "$work/subscriber")
    if [ "${objects:-0}" -ge 200 ] && [ "${lost:-0}" -eq 0 ]; then
        record "$section" "$label" "$draft" "$name" passed "objects arrived, none lost"
    else
        record "$section" "$label" "$draft" "$name" failed \
            "${objects:-0} objects, ${lost:-unknown} lost; $(tail -1 "$work/subscriber")"
    fi
}

aiomoqt_bench() {
    local section=$1 at=$2 label="moq-pub-bench and moq-sub-bench (aiomoqt 0.13.3)$3" draft
    have "$section" moq-pub-bench "$label" aiomoqt || return 0
    for draft in $4; do
        say "moq-pub-bench and moq-sub-bench, draft $draft$3"
        bench_cell "$section" "$label" "$at" "$draft" subgroups -s 1000 -g 10
        bench_cell "$section" "$label" "$at" "$draft" datagrams -s 500 -g 10 -D
    done
}

# A publisher of aiomoqt's that is odd on purpose, for 12 s, and a subscriber for 6. Passes if the
# publisher ends by itself, without an error, and the subscriber has got at least so many objects, and
# says that none was lost.
odd_cell() {
    local draft=$1 name=$2 least=$3
    shift 3
    local section="their clients, our relay" label="moq-pub-bench, odd (aiomoqt 0.13.3)"
    local namespace=odd-$draft-$name objects lost
    start "$work/publisher" timeout 40 "$peers/aiomoqt/bin/moq-pub-bench" "$url" -k \
        --draft "$draft" -N "$namespace" -T t -s 500 -g 10 -r 50 -t 12 "$@"
    local publisher=$child
    if ! await 'waiting for subscriber' "$work/publisher" "$publisher"; then
        record "$section" "$label" "$draft" "$name" failed "$(tail -1 "$work/publisher")"
        return
    fi
    timeout 40 "$peers/aiomoqt/bin/moq-sub-bench" "$url" -k --draft "$draft" -N "$namespace" \
        -T t -t 6 >"$work/subscriber" 2>&1 || true
    objects=$(bench_figure Objects "$work/subscriber")
    lost=$(bench_figure Lost "$work/subscriber")
    local ended=0
    wait "$publisher" || ended=$?
    if [ "$ended" -eq 0 ] && [ "${objects:-0}" -ge "$least" ] && [ "${lost:-0}" -eq 0 ] &&
        ! grep -qiE 'closed.*0x|error:' "$work/publisher"; then
        record "$section" "$label" "$draft" "$name" passed "at least $least objects, none lost"
    else
        record "$section" "$label" "$draft" "$name" failed "${objects:-0} objects, \
${lost:-unknown} lost; publisher: exit $ended, $(grep -iE 'error|closed' "$work/publisher" | tail -1)"
    fi
}

odd_publishers() {
    local draft
    have "their clients, our relay" moq-pub-bench "moq-pub-bench, odd (aiomoqt 0.13.3)" aiomoqt ||
        return 0
    for draft in $drafts; do
        say "moq-pub-bench with its odd ways, draft $draft"
        odd_cell "$draft" publish 200
        odd_cell "$draft" publish-update 200 --publish-update
        odd_cell "$draft" end-after 40 --pub-ns --end-after 3
        odd_cell "$draft" withdraw-after 200 --pub-ns --withdraw-after 2
        odd_cell "$draft" goaway-after 200 --pub-ns --goaway-after 2
        odd_cell "$draft" redirect 200 --pub-ns --redirect
        odd_cell "$draft" padding 200 --pub-ns --padding 1000
        odd_cell "$draft" gaps 200 --pub-ns --gaps
        odd_cell "$draft" no-objects 0 --pub-ns --no-objects
        odd_cell "$draft" prefill 200 --pub-ns --prefill 5
        odd_cell "$draft" token-reject 200 --pub-ns --token-cache 1024 --token-reject 0:6162:1
        odd_cell "$draft" track-status 200 --pub-ns --track-status
    done
}

# Our programs on the libraries moqtap-client and moqtail.
library_peer() {
    local program=$1 label=$2 draft
    local section="their clients, our relay"
    have "$section" "$program" "$label" || return 0
    for draft in $3; do
        say "$program, draft $draft"
        timeout 300 "$peers/bin/$program" "$url" "$draft" >"$work/cases" 2>"$work/cases.log" || true
        tap "$section" "$label" "$draft" <"$work/cases" >>"$results"
        timeout 300 "$peers/bin/$program" "$(webtransport "$url")" "$draft" \
            >"$work/cases" 2>"$work/cases.log" || true
        tap "$section" "$label, WebTransport" "$draft" <"$work/cases" >>"$results"
    done
}

# Chromium without a window: its own WebTransport, and @moq/net in it.
browser() {
    local section="their clients, our relay" label suite draft
    have "$section" browser "Chromium" || return 0
    label=$(chromium --version 2>/dev/null | sed 's/ built on.*//; s/ *$//')
    for suite in plain moq-net; do
        for draft in $([ "$suite" = plain ] && printf '%s' "$drafts" || printf 20); do
            say "$suite in $label, draft $draft"
            timeout 150 node "$peers/browser/run.mjs" chromium "$(webtransport "$url")" "$sha256" \
                "$suite" "$draft" >"$work/cases" 2>"$work/cases.log" || true
            [ "$suite" = plain ] || label="@moq/net 0.3.4 in $label"
            tap "$section" "$label, WebTransport" "$draft" <"$work/cases" >>"$results"
        done
    done
}

# A relay of others' between our publisher or subscribers and our relay.
between_relays() {
    local peer=$1 label=$2 draft=$3 theirs=$4 section="relay and relay"
    our_relay --upstream "$theirs" --insecure
    # It must have reached the other one.
    through "$section" "$label" "$draft" "published-there" "$theirs" "$url"
    through "$section" "$label" "$draft" "published-here" "$url" "$theirs"
    stop_relay
}

# One publisher at a relay, three subscribers at another.
through() {
    local section=$1 label=$2 draft=$3 name=$4 origin=$5 at=$6 count
    rm -f "$work/load.json"
    timeout 60 "$load" relay --origin "$origin" --relay "$at" --insecure --draft "$draft" \
        --size 600 --arrivals constant:20 -s 3 --warm-up 2s --duration 4s --quiet \
        --json "$work/load.json" >"$work/load" 2>&1 || true
    count=$(load_figure expected)
    if [ "${count:-0}" -gt 0 ] && [ "$(load_figure ok)" = "$count" ]; then
        record "$section" "$label" "$draft" "$name" passed "$count of $count objects"
    else
        record "$section" "$label" "$draft" "$name" failed \
            "$(load_figure ok) of ${count:-no} objects; $(tail -1 "$work/load")"
    fi
}

# aip-conformance against our own relay, for comparison.
our_clients_our_relay() {
    local draft
    for draft in $drafts; do
        say "aip-conformance on our relay, draft $draft"
        conform "aip-conformance" "aip-relay" "$draft"
    done
}

# The drafts that a relay of others' speaks, as far as they are ours.
spoken_by() {
    case $1 in
    moq-relay-ietf) printf '18' ;;
    *) printf '18 20 22' ;;
    esac
}

# Starts a relay of others'; sets url and child.
start_their_relay() {
    local log=$work/$1
    url=moqt://127.0.0.1:4443
    case $1 in
    moq-relay-ietf)
        start "$log" "$peers/bin/moq-relay-ietf" --bind 127.0.0.1:4443 \
            --coordinator-file "$work/coordinator.json" \
            --tls-cert "$work/certificate.pem" --tls-key "$work/key.pem"
        ;;
    moq-relay)
        start "$log" "$peers/bin/moq-relay" --listen 127.0.0.1:4443 \
            --listen-tls-cert "$work/certificate.pem" --listen-tls-key "$work/key.pem" \
            --auth-public '**'
        ;;
    moq-interop-relay)
        start "$log" "$peers/aiomoqt/bin/moq-interop-relay" --bind 127.0.0.1 --port 4443 \
            --cert "$work/certificate.pem" --key "$work/key.pem" --dual
        ;;
    esac
}

label_of() {
    case $1 in
    moq-relay-ietf) printf 'moq-relay-ietf 0.8.0' ;;
    moq-relay) printf 'moq-relay 0.17.10' ;;
    moq-interop-relay) printf 'moq-interop-relay (aiomoqt 0.13.3)' ;;
    esac
}

# Waits until a relay answers our handshake.
await_their_relay() {
    local deadline=$((SECONDS + 20))
    until "$conformance" -r "$url" --tls-disable-verify --draft 18 -t setup-only >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] && kill -0 "$child" 2>/dev/null || return 1
        sleep 0.2
    done
}

# aip-conformance against a relay of others', each draft with a relay started anew, so that one
# that a case has brought down fails that case's successors in this draft alone.
their_relay() {
    local peer=$1 label draft section="aip-conformance" package=$1
    label=$(label_of "$peer")
    [ "$peer" = moq-interop-relay ] && package=aiomoqt
    have "$section" aip-conformance "$label" "$package" || return 0
    for draft in $drafts; do
        case " $(spoken_by "$peer") " in *" $draft "*) ;; *) continue ;; esac
        start_their_relay "$peer"
        if ! await_their_relay; then
            record "$section" "$label" "$draft" setup-only failed "$(tail -1 "$work/$peer")"
            stop_child "$child"
            continue
        fi
        say "aip-conformance on $label, draft $draft"
        local theirs=$url process=$child
        engine_client "our clients, their relays" "$label" "$draft"
        conform "$section" "$label" "$draft"
        stop_child "$process"
        start_their_relay "$peer"
        if await_their_relay; then
            process=$child
            url=$(webtransport "$theirs")
            engine_client "our clients, their relays" "$label, WebTransport" "$draft"
            url=$theirs
            aiomoqt_bench "their clients, their relays" "$theirs" " with $label" "$draft"
            between_relays "$peer" "$label" "$draft" "$theirs"
        fi
        stop_child "$process"
    done
}

# Our engine's client, as aip-load drives it: one publisher, three subscribers, four seconds. What is
# asked here is that every object comes once and unchanged, not when.
engine_client() {
    local section=$1 label=$2 draft=$3 delivery count least
    for delivery in stream datagram; do
        rm -f "$work/load.json"
        timeout 60 "$load" relay --relay "$url" --insecure --draft "$draft" --delivery "$delivery" \
            --size 600 --arrivals constant:20 -s 3 --warm-up 1s --duration 4s --quiet \
            --json "$work/load.json" >"$work/load" 2>&1 || true
        count=$(load_figure expected)
        least=$count
        # Datagrams may be lost: most have to arrive.
        [ "$delivery" = datagram ] && least=$((${count:-0} * 3 / 4))
        if [ "${count:-0}" -gt 0 ] && [ "$(load_figure ok)" -ge "$least" ] &&
            [ "$(load_figure duplicated)" = 0 ]; then
            record "$section" "$label" "$draft" "aip-load-$delivery" passed \
                "$(load_figure ok) of $count objects, none twice"
        else
            record "$section" "$label" "$draft" "aip-load-$delivery" failed \
                "$(load_figure ok) of ${count:-no} objects; $(tail -1 "$work/load")"
        fi
    done
}

# A count of aip-load's report.
load_figure() { sed -nE "s/^ *\"$1\": ([0-9]+),?\$/\\1/p" "$work/load.json" 2>/dev/null | head -1; }

# Well-behaved cases; hostile ones, too, for our relay and, if wanted, for others'.
conform() {
    local section=$1 label=$2 draft=$3
    local cases
    cases=$("$conformance" --list)
    [ "$hostile" = yes ] || [ "$label" = aip-relay ] ||
        cases=$(grep -vE '^(malformed|abuse|slow)-' <<<"$cases")
    timeout 900 "$conformance" -r "$url" --tls-disable-verify --draft "$draft" \
        --jobs 32 -t "$(paste -sd, <<<"$cases")" >"$work/cases" 2>/dev/null || true
    tap "$section" "$label" "$draft" <"$work/cases" >>"$results"
    say "aip-conformance on $label, draft $draft: $(grep -c '^ok ' "$work/cases") of \
$(grep -cE '^(not )?ok ' "$work/cases") passed"
}
