/* One static program for small foreign images: `train` and `serve` as SageMaker wants them, and,
 * with words in the variable ZOO, each of them with one defect.
 *
 * train: term=ignore, seconds=N, raise=late, model=none|/folder, failure=none|long, exit=0,
 *        data=needed, hosts=all|one, fork, flood
 * serve: port=N, host=local, ping=STATUS|slow|hang, invoke=none|hang, limit=BYTES, large=cut,
 *        types=any|crash|none, charset=no, chunked=no, type=none, parameters=text, term=ignore|
 *        drop|code|cut, start=return|log, model=needed|late, load=N, workers=one, slow[=MILLISECONDS]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t asked_to_end;
static int active;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, one_worker = PTHREAD_MUTEX_INITIALIZER;

static void end(int number) {
    (void)number;
    asked_to_end = 1;
}

static void nothing(int number) { (void)number; }

/* The value of a word of ZOO, or an empty one for a word without; NULL if it is not there. */
static const char *word(const char *name) {
    static _Thread_local char value[256];
    const char *all = getenv("ZOO");
    size_t length = strlen(name);
    while (all && *all) {
        size_t size = strcspn(all, " ");
        if (size >= length && !strncmp(all, name, length) && (size == length || all[length] == '=')) {
            snprintf(value, sizeof value, "%.*s", (int)(size - length), all + length);
            return value[0] ? value + 1 : value;
        }
        all += size + (all[size] == ' ');
    }
    return NULL;
}

static int is(const char *name, const char *value) {
    const char *found = word(name);
    return found && !strcmp(found, value);
}

static int number(const char *name, int otherwise) {
    const char *found = word(name);
    return found ? atoi(found) : otherwise;
}

static int read_file(const char *path, char *into, int size) {
    int file = open(path, O_RDONLY), got = 0, more;
    if (file < 0) return -1;
    while (got < size - 1 && (more = read(file, into + got, size - 1 - got)) > 0) got += more;
    into[got] = 0;
    close(file);
    return got;
}

static int write_file(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, text, strlen(text)) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    return close(file);
}

static int is_empty(const char *folder) {
    DIR *open_one = opendir(folder);
    struct dirent *entry;
    int count = 0;
    while (open_one && (entry = readdir(open_one))) count += entry->d_name[0] != '.';
    if (open_one) closedir(open_one);
    return !count;
}

static int fail(const char *text) {
    char full[2000];
    snprintf(full, sizeof full, "%s%*s", text, is("failure", "long") ? 1500 : 0, "");
    fprintf(stderr, "Traceback (most recent call last):\nValueError: %s\n", text);
    if (!is("failure", "none")) write_file("/opt/ml/output/failure", full);
    return number("exit", 1);
}

static int train(void) {
    char text[65536], path[300];
    const char *folder = word("model") ? word("model") : "/opt/ml/model";
    if (!is("term", "ignore")) signal(SIGTERM, end);
    puts("training");
    fflush(stdout);
    if (word("fork")) return fork() ? 0 : pause();  /* the child ends with process 1 */
    if (word("flood"))
        for (int line = 0; line < 400000; line++) puts("epoch 1, step 17, loss 0.123456789, rate 0.0003");
    if (read_file("/opt/ml/input/config/hyperparameters.json", text, sizeof text) < 1)
        return fail("there is no hyperparameters.json");
    if (!strchr(text, '}')) return fail("hyperparameters.json is not JSON");
    if (is("data", "needed") && is_empty("/opt/ml/input/data/train"))
        return fail("/opt/ml/input/data/train is empty");
    for (int tenth = 0; tenth < 10 * number("seconds", 2) && !asked_to_end; tenth++) usleep(100000);
    if (is("raise", "late")) return fail("loss is not finite");
    read_file("/opt/ml/input/config/resourceconfig.json", text, sizeof text);
    char *current = strstr(text, "\"current_host\"");
    int is_first = current && !strncmp(current + 14 + strcspn(current + 14, "a"), "algo-1", 6);
    if (is("hosts", "one") && strstr(text, "algo-2")) return fail("it knows one host only");
    if ((is_first || is("hosts", "all")) && strcmp(folder, "none")) {
        mkdir(folder, 0755);
        snprintf(path, sizeof path, "%s/model.bin", folder);
        if (write_file(path, is_first ? "weights" : "other weights")) return fail("the model can't be written");
    }
    return asked_to_end ? 143 : 0;
}

static void say(int link, const char *status, const char *type, const char *body) {
    char text[1024];
    int size = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s%s%s\r\n%s",
                        status, strlen(body), type ? "Content-Type: " : "", type ? type : "", type ? "\r\n" : "", body);
    (void)!write(link, text, size);
}

/* Say it, and take what is still being sent: an answer before a reset would be lost. */
static void refuse(int link, const char *status) {
    static _Thread_local char rest[65536];
    struct pollfd waiting = {link, POLLIN, 0};
    say(link, status, "text/plain", status);
    shutdown(link, SHUT_WR);
    while (poll(&waiting, 1, 3000) > 0 && read(link, rest, sizeof rest) > 0) {}
}

static char *header(char *head, const char *name) {
    char *found = strcasestr(head, name);
    return found ? found + strlen(name) + strspn(found + strlen(name), " ") : "";
}

static void invocations(int link, char *head, char *body, long got) {
    static const char *known[] = {"application/json", "text/csv", "application/octet-stream"};
    struct linger at_once = {1, 0};
    char rest[65536];
    char *type = header(head, "\r\ncontent-type:");
    long length = atol(header(head, "\r\ncontent-length:"));
    int is_chunked = !strncmp(header(head, "\r\ntransfer-encoding:"), "chunked", 7), more, is_known = is("types", "any");
    for (int index = 0; index < 3; index++) {
        size_t size = strlen(known[index]);
        char after = strncmp(type, known[index], size) ? 'x' : type[size];
        is_known |= !is("types", "none") && (after == '\r' || (after == ';' && !is("charset", "no")));
    }
    if (is("invoke", "none")) return refuse(link, "404 Not Found");
    if (is("invoke", "hang")) sleep(600);
    if (length > 100000000 && is("large", "cut")) return (void)setsockopt(link, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if (length > number("limit", 100000000)) return refuse(link, "413 Content Too Large");
    if (is_chunked && is("chunked", "no")) return refuse(link, "411 Length Required");
    if (is_chunked) {
        memcpy(rest, body, got);
        while (got < (long)sizeof rest - 1 && !memmem(rest, got, "\r\n0\r\n\r\n", 7) &&
               (more = read(link, rest + got, sizeof rest - got)) > 0)
            got += more;
    }
    for (; !is_chunked && got < length; got += more)
        if ((more = read(link, rest, sizeof rest)) <= 0) return;
    if (!is_known) return refuse(link, is("types", "crash") ? "500 Internal Server Error" : "415 Unsupported Media Type");
    if (is("model", "late") && (read_file("/opt/ml/model/model.bin", rest, 64) < 0 || strncmp(rest, "weights", 7)))
        return say(link, "500 Internal Server Error", "text/plain", "the model is damaged");
    const char *slow = word("slow");
    if (slow) usleep(1000 * (*slow ? atoi(slow) : 200));
    say(link, "200 OK", is("type", "none") ? NULL : "application/json", "[0.5]");
}

static void answer(int link) {
    char head[65536];
    char *body = NULL;
    int size = 0, more;
    while (size < (int)sizeof head - 1 && (more = read(link, head + size, sizeof head - 1 - size)) > 0) {
        size += more;
        head[size] = 0;
        if ((body = strstr(head, "\r\n\r\n"))) break;
    }
    if (!body) return;
    body[2] = 0;
    body += 4;
    if (!strncmp(head, "GET /ping ", 10)) {
        const char *ping = word("ping");
        if (is("ping", "hang")) sleep(600);
        if (is("ping", "slow")) sleep(3);
        if (ping && atoi(ping)) say(link, ping, "text/plain", "no");
        else say(link, "200 OK", NULL, "");
    } else if (!strncmp(head, "POST /invocations ", 18)) {
        invocations(link, head, body, size - (body - head));
    } else if (is("parameters", "text") && !strncmp(head, "GET /execution-parameters ", 26)) {
        say(link, "200 OK", "application/json", "{\"MaxConcurrentTransforms\": \"four\"}");
    } else {
        refuse(link, "404 Not Found");
    }
}

static void *work(void *link) {
    int alone = is("workers", "one");
    if (alone) pthread_mutex_lock(&one_worker);
    answer((int)(long)link);
    if (alone) pthread_mutex_unlock(&one_worker);
    close((int)(long)link);
    pthread_mutex_lock(&lock);
    active--;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void take(int port, int wait) {
    struct pollfd waiting = {port, POLLIN, 0};
    pthread_attr_t detached;
    pthread_t thread;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (poll(&waiting, 1, wait) > 0) {
        int link = accept(port, NULL, NULL);
        if (link < 0) return;
        pthread_mutex_lock(&lock);
        active++;
        pthread_mutex_unlock(&lock);
        if (pthread_create(&thread, &detached, work, (void *)(long)link)) close(link), active--;
        if (asked_to_end && wait > 100) return;
    }
}

static int serve(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(number("port", 8080))};
    int port = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sigaction ending = {.sa_handler = is("term", "ignore") ? nothing : end};
    address.sin_addr.s_addr = is("host", "local") ? htonl(INADDR_LOOPBACK) : INADDR_ANY;
    if (!is("term", "drop")) sigaction(SIGTERM, &ending, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (is("start", "return")) return fork() ? 0 : (sleep(600), 0);
    if (is("start", "log") && write_file("/var/log/server/access.log", ""))
        return fputs("open() \"/var/log/server/access.log\" failed (2: No such file or directory)\n", stderr), 1;
    if (is("model", "needed") && is_empty("/opt/ml/model")) return fputs("there is no model in /opt/ml/model\n", stderr), 1;
    sleep(number("load", 0));
    setsockopt(port, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(port, (struct sockaddr *)&address, sizeof address) || listen(port, 512)) return perror("bind"), 1;
    fprintf(stderr, "listening on port %d\n", ntohs(address.sin_port));
    while (!asked_to_end) take(port, 200);
    if (is("term", "cut")) return 0;
    take(port, 100);
    close(port);
    for (int tenth = 0; tenth < 200 && active; tenth++) usleep(100000);
    return is("term", "code") ? 1 : 0;
}

/* As an init: SIGTERM is blocked and asked for, and passed on to the one child. */
static int init(char **words) {
    sigset_t all;
    int status = 0, got;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    pid_t child = fork();
    if (!child) {
        sigprocmask(SIG_UNBLOCK, &all, NULL);
        execvp(words[0], words);
        perror(words[0]);
        _exit(127);
    }
    while (!sigwait(&all, &got)) {
        if (got != SIGCHLD) kill(child, got);
        else if (waitpid(child, &status, WNOHANG) == child) break;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int count, char **words) {
    const char *name = strrchr(words[0], '/') ? strrchr(words[0], '/') + 1 : words[0];
    const char *role = count > 1 ? words[count - 1] : name;
    if (!strcmp(name, "tini")) return init(words + 1 + (count > 1 && !strcmp(words[1], "--")));
    if (!strcmp(name, "train") || !strcmp(role, "train")) return train();
    if (!strcmp(name, "serve") || !strcmp(role, "serve")) return serve();
    fprintf(stderr, "usage: train | serve\n");
    return 2;
}
