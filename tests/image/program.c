/* The one program of every test image: sleeps until SIGTERM, and serves HTTP
 * when it is given a port, so that probes have something to ask.
 *
 *   --port N       answer on port N: 200 for any path
 *   --never-ready  answer 503 for /ready
 *   --exit N       print a line and leave with N at once
 *
 * Asked for /break it answers 503 for /ready from then on, until it is started anew.
 *
 * A body is the value of GREETING and the first bytes of /content, by which a
 * test sees whose parameters and which image a pod really runs. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

static int unready;

static void answer(int peer) {
    char request[1024] = {0}, content[33] = {0}, reply[2048];
    if (read(peer, request, sizeof request - 1) <= 0) return;
    FILE *file = fopen("/content", "r");
    if (file) {
        if (!fread(content, 1, sizeof content - 1, file)) content[0] = 0;
        fclose(file);
    }
    const char *greeting = getenv("GREETING") ? getenv("GREETING") : "";
    if (strncmp(request, "GET /break", 10) == 0) unready = 1;
    int refused = unready && strncmp(request, "GET /ready", 10) == 0;
    int length = snprintf(reply, sizeof reply,
                          "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%.1000s\n%s\n",
                          refused ? "503 Not Ready" : "200 OK",
                          strnlen(greeting, 1000) + strlen(content) + 2, greeting, content);
    if (write(peer, reply, length) < 0) perror("write");
}

int main(int count, char **arguments) {
    int port = 0;
    struct sigaction on_term = {.sa_handler = leave};
    sigaction(SIGTERM, &on_term, NULL);
    sigaction(SIGINT, &on_term, NULL);
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--never-ready") == 0) unready = 1;
        else if (strcmp(arguments[i], "--port") == 0 && i + 1 < count) port = atoi(arguments[++i]);
        else if (strcmp(arguments[i], "--exit") == 0 && i + 1 < count) {
            fprintf(stderr, "leaving with %s, as told\n", arguments[i + 1]);
            return atoi(arguments[i + 1]);
        } else {
            fprintf(stderr, "unknown argument %s\n", arguments[i]);
            return 64;
        }
    }
    fprintf(stderr, "started, port %d\n", port);
    if (!port)
        for (;;) pause();
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = INADDR_ANY};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 64)) {
        perror("listen");
        return 1;
    }
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer < 0) continue;
        answer(peer);
        close(peer);
    }
}
