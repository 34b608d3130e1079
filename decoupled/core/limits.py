"""Every limit of the system, with its unit. Nothing here is configuration: those are options of `decoupled serve`
and parameters of the template. A limit that AWS sets says so."""

KIB = 1024
MIB = 1024 * KIB

# --- a request ----------------------------------------------------------------
MAX_REQUEST_BYTES = 4 * MIB  # Lambda takes 6 MB with the body as a JSON string, whose quotes double when escaped
MAX_ENTRY_BYTES = 256 * KIB  # leaves room in a DynamoDB item (400 KB) to keep a dead letter's body with its story
MAX_BATCH_ENTRIES = 1_000  # a JSON array; 100 SendMessageBatch calls fit API Gateway's 30 s
MAX_KEPT_BYTES = 64 * MIB  # of requests and unsent answers, all clients' of one machine's server together
REQUEST_BYTES = 512  # that a request or a message counts for, beside its bytes: Python's objects for it
FIELD_BYTES = 128  # and each of its headers and cookies
SMALL_REQUEST_BYTES = 8 * KIB  # of which one is always taken
LARGE_BODY_BYTES = 64 * KIB  # of which the rest may have to wait
READ_BYTES = 256 * KIB  # that a client may bring at once: uvloop's buffer
PIECE_BYTES = 2 * KIB  # of that, looked at in one go; some 80 requests at most
AT_ONCE_BYTES = 32 * KIB  # of a body that the embedded engine takes in one go,
AT_ONCE_ENTRIES = 50  # and of its entries; what is more has its turns
MAX_TRANSACTION_BYTES = 2 * MIB  # of messages in one transaction of the embedded engine, if more than one request's
MAX_DISCARDED_BYTES = 16 * MIB  # that a client still sends after its request was refused, before it is cut off
MAX_HEAD_BYTES = 16 * KIB  # request line and headers; API Gateway takes 10,240 bytes. Also of trailers
MAX_FIELDS = 100  # headers of a request, and cookies of it
CHUNK_BYTES = 16  # around each byte of a body in chunks: the smallest chunk has one
MAX_CLIENTS = 4_096  # connections at once; a further one takes the place of the one that has waited longest
REQUEST_PART_S = 10  # for a client to send the head of a request, and then for each part of the body
BODY_PART_BYTES = 40 * KIB
ROOM_WAIT_S = 20  # for a large body to wait until there is room for the rest
HANDSHAKE_S = 10  # for a client to shake hands, where TLS is spoken
TLS_PIECE_BYTES = 4 * KIB  # of what comes and goes, for OpenSSL at once: its buffers keep the size that they once had
TLS_RECORD_BYTES = 16 * KIB  # the most that OpenSSL gives at once
MAX_CERTIFICATE_BYTES = MIB  # of the file of a certificate, and of that of its key
CERTIFICATE_WARN_S = 14 * 86_400  # before a certificate ends, from when on health says so
CORS_MAX_AGE_S = 600  # for which a browser need not ask again what pages of another origin may send
KEEP_ALIVE_S = 75  # for it to begin the next one
ANSWER_S = 60  # for us to answer it
MAX_WAIT_S = 50  # for what a message comes to, if its client prefers that; less than ANSWER_S, and than proxies' 60 s
UNSENT_S = 60  # for a client to take the answers that are there
LINGER_S = 2  # for a client to take the answer to a request that was refused before its end
MAX_FAR_EXPONENTS = 1_000  # numbers of an entry near the limits of floating point: each takes eight microseconds
MAX_FAULTS_NAMED = 50  # bad fields of one entry named in a 422,
MAX_FAULTS_NAMED_IN_ALL = 1_000  # and of all entries of a request; Lambda answers with 6 MB at most
MAX_FAULT_DEPTH = 8  # objects and arrays within each other that a bad field is looked for in
MAX_FAULT_CHARS = 200  # of a bad value or an unknown name that a 422 repeats
MAX_IDEMPOTENCY_KEY_CHARS = 255
MAX_ID_CHARS = 64
MAX_CALLBACK_BYTES = 2_000  # of a Callback-Url
MAX_GROUP_CHARS = 255  # of a group's name; a longer one is told by its digest

# --- callers of one machine ---------------------------------------------------
MAX_CALLER_NAME_CHARS = 63
MAX_API_KEYS = 10_000  # of a data directory,
MAX_API_KEYS_BYTES = 8 * MIB  # and of the file that they are kept in
MAX_API_KEY_LIFE_S = 3_660 * 86_400  # that a key may last, if it is to end at all, and an overlap of two
API_KEYS_LOOK_S = 1.0  # between two looks of a front or the writer at whether the keys have changed
MAX_KNOWN = 4_096  # proofs of a kind that a front has found to be right, and need not check again,
MAX_KNOWN_CHARS = 8 * MIB  # and of all of them
MAX_TOKEN_CHARS = 8 * KIB  # of a JWT; API Gateway takes 10,240 bytes of headers in all
MAX_SUBJECT_CHARS = 255  # of its sub: OpenID Connect's
CLOCK_LEEWAY_S = 60.0  # that its issuer's clock may differ from ours
KEYS_REFRESH_S = 300.0  # between two looks at an issuer's key set; one that it takes out counts as long
KEYS_AGAIN_S = 10.0  # between them at least, also when a key is missed, or the issuer does not answer
KEYS_FETCH_S = 8.0  # for an issuer to answer
KEYS_FIRST_S = 5.0  # that a front waits for its first answer before it takes clients
MAX_KEY_SET_BYTES = 256 * KIB  # of its answer,
MAX_TOKEN_KEYS = 100  # and of keys in it
MAX_KEY_ID_CHARS = 255
MAX_KEYS_SOUGHT = 1_024  # that were missed, and are known by name until it has been asked
MIN_RSA_BITS, MAX_RSA_BITS = 2_048, 8_192  # RFC 7518; to check a longer one takes milliseconds
MAX_SENDERS = 1_000  # of webhooks, of a data directory,
MAX_SENDERS_TRIED = 8  # and of one preset, for one workload: who forges makes us sign as all of them, 10 ms at worst
MAX_SENDER_SECRETS = 3  # of a sender at once, while one replaces another
MIN_SENDER_SECRET_CHARS, MAX_SENDER_SECRET_CHARS = 16, 256  # one that people think up may be guessed from a signature
MAX_SIGNATURES = 16  # of a request, while its sender changes its secret
SIGNATURE_WINDOW_S = 300  # that a signature's time may be off: Standard Webhooks and Stripe
MAX_EVENT_ID_CHARS = 255  # of what a sender calls its event
CALLER_BURST_S = 1.0  # of its rate that a caller may send at once after a pause, and one message at least
MAX_CALLER_WAITING = 100_000  # messages of a caller that may wait, where that is limited: to count them takes 10 ms
CALLER_COUNT_S = 0.1  # between two counts of a caller's messages that wait,
CALLER_COUNT_PART = 20  # and of the writer's time, one part in so many at most
CALLER_WAITING_RETRY_S = 5  # after which one who has too many waiting may try again
MAX_CALLERS_KNOWN = 10_000  # whose rates and shares a server remembers; of others it knows nothing bad
MAX_CALLERS_LIMITED = 1_000  # of whom it remembers that they were refused
CALLERS_LIMITED_SHOWN = 10  # of these in health and status, those with most messages refused,
CALLER_LIMITED_S = 60.0  # for so long after the last one; also between two lines of the log

# --- a message ----------------------------------------------------------------
RECEIVE_MAX = 10  # AWS: SQS hands out at most ten messages a receive, and takes ten entries a batch call
MAX_VISIBILITY_TIMEOUT_S = 43_200  # AWS: twelve hours
MAX_DELAY_S = 900  # AWS
MAX_LATER_S = 366 * 86_400  # that a message may be due later, or be put off by NotYet at once
MAX_LATER_ENTRY_BYTES = 120 * KIB  # of an entry that is due later than MAX_DELAY_S: quoted, it fits a schedule
MAX_SCHEDULE_BYTES = 256_000  # AWS: of an EventBridge schedule's input
NOT_YET_S = 1.0  # the shortest that NotYet puts a message off
MAX_GROUP_ID_CHARS = 128  # AWS: MessageGroupId of a fair queue
MAX_SQS_ATTRIBUTES = 10  # AWS: of a message
MAX_SQS_BYTES = MIB  # AWS: of a message, and of a batch call, attributes included

# --- the clock of timestamps --------------------------------------------------
CLOCK_LOOK_MS = 1_000  # between two looks at the system's clock
CLOCK_GRADUAL_MS = 1_000  # that it may be off, to be followed gradually: a leap second is
CLOCK_GRADUAL_PART = 1_000  # by a millisecond in so many
CLOCK_BELIEVED_MS = 60_000  # that it must have been off by more, to be followed at once

# --- calls of AWS -------------------------------------------------------------
MAX_ID_KEYS = 8  # that ids are verified with; a function's environment has 4 KB
MAX_UNRECORDED_S = MAX_LATER_S + 14 * 86_400  # that what was accepted may have no record; 14 days of it on SQS
WAIT_FIRST_PAUSE_S = 0.05  # before a record is read again for a client that waits,
WAIT_PAUSE_GROWTH = 1.5  # each time so much longer
WAIT_PAUSE_CAP_S = 1.0  # up to this
WAIT_RESERVED_S = 3.0  # of a function's time, for the last reading and the answer
AWS_CONCURRENCY = 10  # calls at once of one function: the commits of a batch, or the batch calls of a large send
CONFLICT_TRIES = 5  # of a transaction that collides with another, before its message goes back to the queue
STACK_SEARCH_S = 3.0  # that dead records are looked through, before a person is asked to go on
OUTPUTS_KEPT_S = 60.0  # that a page need not ask again what a stack consists of
DEAD_PAGE = 500  # dead records in one answer of their index, a few hundred bytes each without an error's text
CONFLICT_PAUSE_S = 0.02  # before the second try, doubled before each further one, with jitter: 0.3 s at most in all

# --- effects ------------------------------------------------------------------
MAX_ITEMS = 100  # AWS: actions in one TransactWriteItems; the record is one of them
MAX_ITEM_BYTES = 400_000  # AWS: 400 KB with attribute names
MAX_EMITS = 100  # a record keeps what it emits until it is sent
MAX_KEY_BYTES = 1_024
KEY_ATTRIBUTE = "pk"  # an item's key stands beside its attributes in DynamoDB, under this name
COLLECTION_ATTRIBUTE = "pk_collection"  # and of one that is listed, its collection;
OWNER_ATTRIBUTE = "pk_owner"  # and whose it is
MAX_LISTED_ITEMS = 100  # in one page of a listing,
MAX_LISTED_BYTES = MIB  # and of these items together, but one: AWS ends a page of a query at 1 MB
MAX_NUMBER_DIGITS = 38  # AWS: DynamoDB's numbers
MIN_NUMBER_EXPONENT, MAX_NUMBER_EXPONENT = -130, 125  # AWS: powers of ten of DynamoDB's numbers

# --- retries ------------------------------------------------------------------
BACKOFF_FIRST_S = 2.0
BACKOFF_CAP_S = 900.0
MAX_ATTEMPTS = 5  # failures that are the message's fault, before it is a dead letter
ATTEMPTS_SPAN_S = 3_600  # that these take at least on AWS, by default; a server holds the workload instead
HOLD_AFTER = 20  # messages that fail alike in a row, which is a bug or an outage, and no poison
VERSION_SKEW_S = 900  # for which what this version does not understand is tried again: a newer one may be on its way
MAX_RECEIVE_COUNT = 1_000  # the queue's own safety net: AWS's maximum, far above the ~110 receives of a day's outage
MAX_ERROR_CHARS = 2_000  # of an error's text, or a rejection's reason, kept with a record
MAX_TRACEBACK_CHARS = 8_000  # of a dead letter's
MAX_ALIKE_SEEN_CHARS = 500  # of an error's text, that tell what it is like,
MAX_ALIKE_CHARS = 200  # and of what is left of them
MAX_ALIKE_KEPT = 10_000  # errors whose likes are remembered: to find one out takes 20 microseconds
MAX_TRACEBACK_FRAMES = 50
MAX_OUTAGE_S = 3_600  # of the table, simulated on request; then it ends by itself
MAX_RETRY_AFTER_S = 43_200  # of what a backend may ask for: the longest visibility timeout

# --- outbound: webhooks and e-mail --------------------------------------------
OUTBOUND_TIMEOUT_S = 8.0  # for a whole webhook exchange; for each step of an e-mail's
OUTBOUND_KEEP_ALIVE_S = 4.0  # that a connection is kept for the next exchange: most servers keep it for 5 s or longer
MAX_OUTBOUND_SOCKETS = 512  # of a process, that are kept; with more, an exchange asks for its connection to be closed
MAX_OUTBOUND_ADDRESSES = 4  # of a host, that are tried
MAX_ANSWER_BODY_BYTES = 16 * KIB  # of an answer to a webhook, that are read so that its connection can be kept,
ANSWER_BODY_S = 1.0  # if they come within that time
MAX_LOOKUPS = 32  # names looked up at once, a thread each
MAX_MAIL_THREADS = 32  # e-mails handed over at once; smtplib blocks
MAX_ADDRESS_OCTETS = 254  # of an e-mail address: RFC 5321's path of 256 without its brackets
MAX_LOCAL_PART_OCTETS = 64  # RFC 5321
MAX_DOMAIN_OCTETS = 253  # DNS

# --- workloads that call others -----------------------------------------------
ASYNC_CONCURRENCY = 400  # messages at once in a process: of two, a single group may have 600; 1,000/s of 0.3 s take 300
MAX_CONCURRENCY = 1_000  # that a workload may ask for
MIN_RATE, MAX_RATE = 0.001, 1_000_000  # messages a second: a ceiling below that is a standstill
MAX_THREADS = 64  # of a workload in one process
THREAD_STACK_BYTES = 2 * MIB  # of each in a worker: all of it counts for what a message may allocate
LATE_S = 0.5  # more for a message whose deadline was seen late; if later than that, it is not to blame
OVERDUE_S = 1.0  # after its deadline, from which on what does not end is stuck
MAX_AWAITED = 64  # coroutines that wait for one another, looked through for what the last one waits for
BEAT_S = 0.25  # between two signs of life of a process that decides many at once
MAX_MARKED = 10_000  # messages that killed their process, and are kept apart from others

# --- fronts -------------------------------------------------------------------
MAX_FRONTS = 64
FRONTS_BY_CORES = 8  # at most, where nobody says how many: two of them are enough for one writer, unless many ask
FRONT_WINDOW_BYTES = 2 * MIB  # of messages that a front may have with the writer, if more than one request's
FRONT_KEPT_BYTES = 2 * MAX_REQUEST_BYTES  # of MAX_KEPT_BYTES, that each front may keep however many there are
WRITER_BUSY_S = 2.0  # for a request to wait until the writer takes more from its front
WRITER_SILENT_S = 30.0  # and then for the writer's answer; less than ANSWER_S
HEALTH_WAIT_S = 2.0  # for the writer to say how it is
ADDRESS_WAIT_S = 0.5  # for the fronts of a server that was killed to let go of the address
FRONT_SILENT_S = 30.0  # after which one is taken for hung: a validation that takes that long holds up all its clients
FRONT_LEAVE_S = KEEP_ALIVE_S + ANSWER_S + UNSENT_S  # for one to end in its own time: its clients leave as ever
MAX_NOTED = 1_024  # durations of a workload's requests, until a front counts them in buckets
FRONT_END_S = 2 * LINGER_S  # for one to end when the server stops

# --- hearing of ends ----------------------------------------------------------
MAX_HEARERS = 3_072  # clients that wait or have a stream at once: the other places are for those who ask
MAX_HEARERS_OF_CALLER = 1_536  # of these, where callers say who they are
MAX_FOLLOWED = (
    10_000  # callers, by workload, whose ends have positions; beyond, whoever has not come for longest has none
)
EVENTS_AT_ONCE = 100  # that are read for a stream in one go,
EVENTS_BYTES = 64 * KIB  # and of these, but one; more are read when its client has taken them
STREAM_COMMENT_S = 15  # between two signs of life in a stream: proxies end what is silent for a minute
STREAM_RETRY_S = 1  # after which a client comes again whose stream has ended

# --- worker processes ---------------------------------------------------------
WORKER_START_S = 60.0  # for a worker to import its workloads
WORKER_END_S = 5.0  # for the kernel to end one that was killed
WORKER_RETRY_FIRST_S = 0.25  # before another one is started after one that came to nothing,
WORKER_RETRY_CAP_S = 30.0  # doubled up to this, with jitter
WORKER_PROVEN_S = 2.0  # that one must have been there, or have decided something, not to count as another failure
WORKER_SLOW_START_S = 10.0  # after which health tells of workers that are not ready yet
WORKER_SHORT_LIFE_S = 10.0  # of one that had too much memory by then: its limit is too low
MEMORY_LOOK_S = 0.05  # between two looks of a worker at its own memory: not at every batch of a millisecond
MESSAGE_MEMORY_FACTOR = 4  # times a worker's memory limit is what one message may allocate, on Linux
MAX_REPLY_BYTES = 2 * RECEIVE_MAX * MAX_ITEMS * MAX_ITEM_BYTES  # of a worker about a batch; more is no reply

MAX_GROUPS_LOOKED = 10_000  # by one claim, for one that has a visible message: 15 ms of the loop
MAX_HEADS_LOOKED = 1_000  # groups of an ordered workload, likewise: 5 ms of the loop
MAX_GROUP_RATES = 10_000  # groups of a workload whose rates are known; one that is forgotten may have a message more
MAX_FAILED_KNOWN = 10_000  # messages of a workload that a server knows to have failed before
MAX_SICK_GROUPS = 1_000  # of a workload, that a server knows of; beyond, it asks one of them again
MAX_CLAIMED = 640  # messages of one workload in one claim; to try each by itself takes the loop 30 ms
LOCK_WAIT_S = 2.0  # of a request for the lock of the database, while another process holds it
MAX_SET_ASIDE = 10_000  # messages that are known to be damaged; a server passes them by, and claims nothing with more
LOOK_S = 1.0  # that a person's look into a large table takes; then it says where it has got to,
LOOK_FIRST_FACTOR = 4  # and longer only while it has seen nothing at all
LOOK_FIRST_ROWS = 500  # that it looks at in one go, doubled
LOOK_MOST_ROWS = 16_000  # up to this: some ten milliseconds
LOOK_STEPS = 10_000  # of SQLite's machine between two looks at the clock: about a millisecond
MAX_QUEUED_SORTED = 20_000  # queued messages that are put in order of age for it: a tenth of a second
MAX_WORKLOADS_TRIED = 20  # under which a key is looked for, where nobody says which
MAX_FOUND = 200  # messages in one answer to a person who looks for some
MAX_SHOWN_CHARS = 300  # of an error or a reason in a list
MAX_LETTERS_SHOWN = 500  # dead letters in one answer, likewise
MAX_GROUPS_SHOWN = 500  # of these, by error
MAX_LETTERS_CHOSEN = 1_000  # by their ids, in one request to change them
MAX_FAILURES_NAMED = 50  # of those that could not be changed
PAGE_BATCH = 500  # dead letters that a request of the page changes, in batches of TOOL_BATCH
MAX_PARAMETER_CHARS = 2_000  # of what a page asks for
MAX_ASKED_BYTES = 128 * KIB  # MAX_LETTERS_CHOSEN ids, as a stack shows them
MAX_AGE_S = 10 * 366 * 86_400  # that a person may ask back
MAX_TIME_MS = 10**14  # a time in milliseconds since the epoch, until the year 5138
MAX_QUEUED_COUNTED = 10_000  # of a workload's messages, where a count is only told to a person
MAX_LOG_LINE_CHARS = 8_000  # of what a workload prints, in one line of the log
MAX_LOG_LINE_BYTES = 32 * KIB  # of any line of the log
MAX_LOG_MEMBERS = 50  # of a line of the log that is longer than that, before it is cut
MAX_LOG_BACKLOG_BYTES = MIB  # of lines that nobody has read yet; further ones are dropped
LOG_FLUSH_S = 1.0  # to write the last lines, when the server ends

# --- the SQLite file ----------------------------------------------------------
FILES_LOOK_S = 1.0  # between two looks at whether a server's files are still its own
WAL_FOLD_FRAMES = 1_000  # pages of 4 KiB in the log before it is folded into the file
WAL_KEPT_BYTES = 16 * MIB  # of the log's file that stay: to write over them is faster than to let it grow again
WAL_LONG_BYTES = 64 * MIB  # of a log that cannot be folded, before a person is told
MAX_WAL_BYTES = 4 * 1024 * MIB  # before nothing more is accepted: every read has to search it, and a start to read it
CHECKPOINT_RETRY_S = 1.0  # after the log could not be folded whole

# --- the page for people on call, and its charts -------------------------------
MAX_PAGE_WAITING = 32  # requests of it that wait for their turn, in one process
MAX_PAGE_BODY_BYTES = 256 * KIB  # of what it sends: the ids of a thousand dead letters
LIVE_EVERY_S = 1.0  # between two looks at the whole, at least,
LIVE_EVERY_OF_STACK_S = 10.0  # where AWS is paid for each,
LIVE_PART = 20  # and of a processor's time for it, one part in so many at most,
LIVE_WAITS = 2  # and of the thread's own time, waiting included, likewise
LIVE_S = 15.0  # for one of them
RATE_S, LATENCY_WINDOW_S = 5.0, 60.0  # over which the page has rates, and latencies
QUEUE_WARN_S, QUEUE_BAD_S = 60.0, 300.0  # that the oldest message waits before the page warns of it, and calls it bad
DEAD_LATELY_S = 3_600  # since which dead letters are news
SIGN_IN_CODE_S = 600  # that a code counts, which `decoupled sign-in` prints,
SESSION_S = 8 * 3_600  # and what comes of it
NONCE_BYTES = 8  # that tell two codes apart
MAX_SIGNED_CHARS = 1_000  # of either
SIGN_IN_ATTEMPTS, SIGN_IN_SPAN_S = 10, 60  # of an address that came to nothing, and in which time,
MAX_SIGN_IN_ADDRESSES = 1_000  # and of how many addresses they are remembered
PAGE_CACHE_KIB = 8 * KIB  # of each of its connections
PAGE_END_S = 1.0  # for what it does to end when the process does
PAGE_ANSWER_S = 20.0  # for one to be answered, its turn included
HISTORY_S = 3_600  # that it goes back
HISTORY_STEP_S = 5.0  # between two samples,
HISTORY_LOOK_PART = 0.02  # or longer: looks take no more than this part of the time
HISTORY_LOOK_S = 5.0  # for one, before it is given up
HISTORY_END_S = 1.0  # for the last one to end when the server does
HISTORY_GAP_S = 1.0  # that no sample is of, before a chart shows it as a gap

# --- traces -------------------------------------------------------------------
MAX_TRACEPARENT_CHARS = 512  # 55 by now; a later version of it may be longer
MAX_TRACESTATE_CHARS = 512  # W3C asks that so many are passed on; a longer one is left out whole
MAX_TRACESTATE_MEMBERS = 32  # W3C
MAX_TRACE_CHARS = 55 + 1 + MAX_TRACESTATE_CHARS  # of both, as a message carries them
CLIENT_TRACES_PER_S = 10.0  # of a front, that clients decide to have sampled; TRACE_CLIENTS_PER_S says otherwise
TRACE_EXPORT_EVERY_S = 1.0  # unless OTEL_BSP_SCHEDULE_DELAY says otherwise: what a process is killed with is lost
TRACE_FLUSH_S = 1.0  # for the last spans to leave, when a process ends or a function answers
TRACE_END_S = TRACE_FLUSH_S + 0.5  # for a worker to do that
MAX_SPAN_ERROR_CHARS = 1_000  # of an error's text in a span

# --- tools --------------------------------------------------------------------
MAX_TOOLS = 16  # that a server talks to at once
ASK_S = 2.0  # for it to say how it is doing
MAX_CHANGE_BYTES = MAX_REQUEST_BYTES  # of dead letters, in one change that a tool asks for
TOOL_BATCH = 100  # dead letters that a tool changes at once: a few milliseconds of the server's time
MAX_PEEKED = 10_000  # messages that a look into SQS's dead-letter queue hides from others for a moment
MAX_IMPORT_LINE_BYTES = 4 * MIB  # a body of MAX_ENTRY_BYTES and those it had before, escaped, with its story
MAX_SPIKE_ORDERS = 10_000_000
MAX_SPIKE_CONNECTIONS = 1_024
SPIKE_TRIES = 50  # of one order, under one Idempotency-Key, before a spike gives it up
SPIKE_PAUSE_S = 5  # the longest between two tries
