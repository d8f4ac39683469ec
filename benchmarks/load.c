/* The load generator: opens event streams, posts messages and counts deliveries, in one thread with one epoll.

It must measure the server and not itself: `load_cpu_s` states how busy it was. It does not rely on rates alone: at the
end every stream must have received every acknowledged message exactly once.

Every message contains a stamp, `~` and 19 digits: the time at which it was due, in ns of CLOCK_MONOTONIC. `~` occurs
nowhere else in a stream, so that counting it counts deliveries in any server's frames. The sum of the stamps verifies
that the messages were the right ones.

Streams are read every half millisecond and do not wake this process: real subscribers are on other machines, and waking
them is not the server's work. An answer to a post wakes it at once.

    load PORT WARM_UP_S SECONDS INTERVAL_NS         interval 0: closed loop, each publisher posts when it was answered

stdin: lines `S <room> <length>` (a stream) or `P <room> <length> <publisher>` (one of that publisher's posts, which it
sends in turn), each followed by the bytes of the request; then `.`; then, after `ready` was printed, `go` or the end.
stdout: `ready`, `start` and `stop` when they happen, and at last the result as JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { DIGITS = 19, TICK_NS = 500000, CONNECTING = 64, EVENTS = 1024, INPUT = 1 << 18, ANSWER = 1 << 16 };
static const uint64_t SECOND = 1000000000, QUIET = 300000000, OPEN_WITHIN = 60 * SECOND, DRAIN_WITHIN = 20 * SECOND;

typedef struct { uint64_t count, sum; } Tally;
typedef struct { int room, length; char *bytes, *stamp; } Request;
typedef struct {
    int fd, room;
    bool publisher, ready;
    char *answer;               /* of a stream until its headers are complete; of a publisher always */
    int have;
    Tally seen;                 /* streams */
    int digits;                 /* of a stamp that are still missing */
    uint64_t stamp;
    Request *requests;          /* publishers: sent in turn */
    int count, next;
    uint64_t due;
} Connection;

/* Values to within 1.6 %: 64 steps per doubling. */
typedef struct { uint64_t counts[64 * 60], total, most; } Histogram;

static Connection **streams, **publishers, **idle;
static int stream_count, publisher_count, idle_count, room_count, opening, lost, poller, reader, timer, ticker, port;
static int *listeners;          /* streams per room */
static Tally *acked;            /* per room */
static uint64_t acks, deliveries, expected, last_input, interval, due;
static bool publishing, measuring;
static Histogram posts, delays;
static char input[INPUT];

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *room_for(void *old, size_t bytes) {
    void *new = realloc(old, bytes);
    if (!new) die("out of memory");
    return new;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void record(Histogram *histogram, uint64_t value) {
    int shift = value < 128 ? 0 : 57 - __builtin_clzll(value);
    histogram->counts[shift * 64 + (value >> shift)]++;
    histogram->total++;
    if (value > histogram->most) histogram->most = value;
}

static double percentile_ms(const Histogram *histogram, double share) {
    uint64_t wanted = share * histogram->total, seen = 0;
    for (int i = 0; i < 64 * 60; i++) {
        seen += histogram->counts[i];
        if (seen > wanted) {
            int shift = i < 128 ? 0 : i / 64 - 1;
            return ((uint64_t)(i - shift * 64) << shift) / 1e6;
        }
    }
    return 0;
}

static void say(const char *word) {
    puts(word);
    fflush(stdout);
}

/* Connections */

static void transmit(Connection *connection, const char *bytes, int length) {
    if (send(connection->fd, bytes, length, MSG_NOSIGNAL) != length) die("a request could not be sent: %s", strerror(errno));
}

static void dial(Connection *connection) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (void *)&address, sizeof address)) die("cannot connect: %s", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(connection->publisher ? poller : reader, EPOLL_CTL_ADD, connection->fd, &event);
}

/* Append to a connection's answer. Return its body once the headers are complete, else NULL. Exit unless it is 2xx. */
static char *headers_read(Connection *connection, const char *bytes, int length) {
    if (connection->have + length >= ANSWER) die("an answer is too long");
    memcpy(connection->answer + connection->have, bytes, length);
    connection->have += length;
    connection->answer[connection->have] = 0;
    char *end = strstr(connection->answer, "\r\n\r\n");
    if (end && strncmp(connection->answer + 8, " 2", 2)) {
        usleep(100000); /* its body may arrive separately */
        length = recv(connection->fd, connection->answer + connection->have, ANSWER - 1 - connection->have, 0);
        connection->answer[connection->have + (length > 0 ? length : 0)] = 0;
        die("the server answered:\n%s", connection->answer);
    }
    return end ? end + 4 : NULL;
}

/* Publishers */

static void post(Connection *publisher, uint64_t time) {
    Request *request = &publisher->requests[publisher->next];
    publisher->due = interval ? due : time;
    for (uint64_t i = DIGITS, rest = publisher->due; i > 0; rest /= 10) request->stamp[--i] = '0' + rest % 10;
    due += interval;
    transmit(publisher, request->bytes, request->length);
}

static void answered(Connection *publisher, const char *bytes, int length) {
    char *body = headers_read(publisher, bytes, length);
    if (!body) return;
    char *header = strcasestr(publisher->answer, "\r\ncontent-length:");
    if (!header || header > body) die("an answer without Content-Length:\n%s", publisher->answer);
    if (publisher->answer + publisher->have - body < atoi(header + 17)) return;
    Request *request = &publisher->requests[publisher->next];
    acked[request->room].count++;
    acked[request->room].sum += publisher->due;
    acks++;
    expected += listeners[request->room];
    if (measuring) record(&posts, now() - publisher->due);
    publisher->have = 0;
    publisher->next = (publisher->next + 1) % publisher->count;
    idle[idle_count++] = publisher;
}

static void post_what_is_due(void) {
    while (publishing && idle_count) {
        uint64_t time = now();
        if (interval && due > time) {
            struct itimerspec at = {.it_value = {due / SECOND, due % SECOND}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            return;
        }
        post(idle[--idle_count], time);
    }
}

/* Streams */

static void delivered(Connection *stream, const char *bytes, int length, uint64_t time) {
    const char *end = bytes + length;
    while (bytes < end) {
        if (!stream->digits) {
            bytes = memchr(bytes, '~', end - bytes);
            if (!bytes) return;
            bytes++;
            stream->digits = DIGITS;
            stream->stamp = 0;
        }
        for (; stream->digits && bytes < end; stream->digits--) stream->stamp = stream->stamp * 10 + *bytes++ - '0';
        if (stream->digits) return;
        stream->seen.count++;
        stream->seen.sum += stream->stamp;
        deliveries++;
        if (measuring) record(&delays, time - stream->stamp);
    }
}

static void streamed(Connection *stream, const char *bytes, int length, uint64_t time) {
    if (stream->ready) {
        delivered(stream, bytes, length, time);
    } else if (headers_read(stream, bytes, length)) {
        free(stream->answer);
        stream->answer = NULL;
        stream->ready = true;
        opening--;
    }
}

/* The loop */

static int add_timer(void) {
    int descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &(struct epoll_event){.events = EPOLLIN});
    return descriptor;
}

/* Return how many connections were ready: EVENTS means that there may be more. */
static int read_ready(int poller, int timeout_ms) {
    static struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, timeout_ms);
    uint64_t time = now();
    for (int i = 0; i < count; i++) {
        Connection *connection = events[i].data.ptr;
        if (!connection) continue; /* a timer, which only wakes the loop */
        int length = recv(connection->fd, input, INPUT, 0);
        if (length < 0 && errno == EAGAIN) continue;
        last_input = time;
        if (length > 0) {
            (connection->publisher ? answered(connection, input, length) : streamed(connection, input, length, time));
        } else {
            if (connection->publisher || !connection->ready) die("the server hung up: %s", length ? strerror(errno) : "closed");
            lost++;
            close(connection->fd);
        }
    }
    return count;
}

/* Wait for an answer or a timer, at most until then, and process all events. */
static void turn(uint64_t until) {
    uint64_t time = now(), times;
    read_ready(poller, until > time ? (until - time) / 1000000 + 1 : 0);
    while (read(ticker, &times, sizeof times) > 0 || read(timer, &times, sizeof times) > 0) continue;
    post_what_is_due();
    while (read_ready(reader, 0) == EVENTS) continue;
}

static void open_streams(void) {
    uint64_t until = now() + OPEN_WITHIN;
    for (int i = 0; i < stream_count; i++, opening++) {
        while (opening >= CONNECTING && now() < until) turn(until);
        streams[i]->answer = room_for(NULL, ANSWER);
        dial(streams[i]);
        transmit(streams[i], streams[i]->requests->bytes, streams[i]->requests->length);
        free(streams[i]->requests->bytes);
    }
    while (opening && now() < until) turn(until);
    if (opening) die("%d streams did not open", opening);
    /* A stream's first frames may follow its headers: wait until no more data arrives. */
    for (last_input = now(); now() < last_input + QUIET && now() < until;) turn(last_input + QUIET);
    for (int i = 0; i < stream_count; i++) streams[i]->seen = (Tally){0}, streams[i]->digits = 0;
    deliveries = 0;
}

static Connection *connection_of(Connection ***list, int *count, int index) {
    while (*count <= index) {
        *list = room_for(*list, (*count + 1) * sizeof **list);
        (*list)[(*count)++] = memset(room_for(NULL, sizeof(Connection)), 0, sizeof(Connection));
    }
    return (*list)[index];
}

static void read_plan(void) {
    char kind;
    Request request;
    int publisher = 0;
    while (scanf(" %c", &kind) == 1 && kind != '.') {
        bool is_stream = kind == 'S';
        int wanted = is_stream ? 2 : 3;
        if (scanf("%d %d", &request.room, &request.length) + (is_stream ? 0 : scanf("%d", &publisher)) != wanted) die("bad plan");
        getchar();
        request.bytes = room_for(NULL, request.length + 1);
        if (fread(request.bytes, 1, request.length, stdin) != (size_t)request.length) die("the plan is cut short");
        request.bytes[request.length] = 0;
        char *mark = strchr(request.bytes, '~');
        request.stamp = mark ? mark + 1 : NULL;
        if (!is_stream && !mark) die("a post without a stamp");
        if (request.room >= room_count) {
            listeners = room_for(listeners, (request.room + 1) * sizeof *listeners);
            memset(listeners + room_count, 0, (request.room + 1 - room_count) * sizeof *listeners);
            room_count = request.room + 1;
        }
        Connection *connection = is_stream ? connection_of(&streams, &stream_count, stream_count)
                                           : connection_of(&publishers, &publisher_count, publisher);
        connection->requests = room_for(connection->requests, (connection->count + 1) * sizeof request);
        connection->requests[connection->count++] = request;
        connection->room = request.room;
        connection->publisher = !is_stream;
        if (is_stream) listeners[request.room]++;
    }
    acked = memset(room_for(NULL, room_count * sizeof *acked + 1), 0, room_count * sizeof *acked);
    idle = room_for(NULL, publisher_count * sizeof *idle + 1);
}

static double cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    char word[8] = "";
    if (argc != 5) die("load PORT WARM_UP_S SECONDS INTERVAL_NS");
    port = atoi(argv[1]);
    interval = strtoull(argv[4], NULL, 10);
    read_plan();
    poller = epoll_create1(0);
    reader = epoll_create1(0);
    timer = add_timer();
    ticker = add_timer();
    timerfd_settime(ticker, 0, &(struct itimerspec){.it_interval.tv_nsec = TICK_NS, .it_value.tv_nsec = TICK_NS}, NULL);
    open_streams();
    say("ready");
    if (scanf("%7s", word) != 1 || strcmp(word, "go")) return 0;

    for (int i = 0; i < publisher_count; i++) {
        publishers[i]->answer = room_for(NULL, ANSWER);
        dial(publishers[i]);
        idle[idle_count++] = publishers[i];
    }
    publishing = true;
    uint64_t begin = due = now(), start = begin + atof(argv[2]) * SECOND;
    post_what_is_due();
    while (now() < start) turn(start);

    say("start");
    measuring = true;
    uint64_t acks_before = acks, deliveries_before = deliveries, stop = (start = now()) + atof(argv[3]) * SECOND;
    double cpu_before = cpu_s();
    while (now() < stop) turn(stop);
    stop = now();
    say("stop");
    measuring = publishing = false;
    uint64_t acks_in_window = acks - acks_before, deliveries_in_window = deliveries - deliveries_before;
    double cpu = cpu_s() - cpu_before;

    uint64_t until = stop + DRAIN_WITHIN;
    while ((idle_count < publisher_count || deliveries < expected) && now() < until) turn(until);
    double drain_s = (now() - stop) / 1e9;
    int wrong = 0;
    for (int i = 0; i < stream_count; i++) {
        Tally *told = &acked[streams[i]->room];
        wrong += streams[i]->seen.count != told->count || streams[i]->seen.sum != told->sum;
    }
    printf("{\"seconds\": %f, \"acked\": %" PRIu64 ", \"delivered\": %" PRIu64 ", \"load_cpu_s\": %f, \"drain_s\": %f",
           (stop - start) / 1e9, acks_in_window, deliveries_in_window, cpu, drain_s);
    printf(", \"streams\": %d, \"streams_wrong\": %d, \"streams_lost\": %d, \"missing\": %" PRId64 ", \"unanswered\": %d",
           stream_count, wrong, lost, (int64_t)(expected - deliveries), publisher_count - idle_count);
    printf(", \"post_ms\": {\"p50\": %f, \"p99\": %f, \"max\": %f}", percentile_ms(&posts, .5), percentile_ms(&posts, .99),
           posts.most / 1e6);
    printf(", \"delivery_ms\": {\"p50\": %f, \"p99\": %f, \"max\": %f}}\n", percentile_ms(&delays, .5),
           percentile_ms(&delays, .99), delays.most / 1e6);
    return 0;
}
