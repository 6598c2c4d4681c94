/* The floor: the smallest relay there can be. One thread, one epoll, no TLS, no protocol, no limits; it copies what
 * arrives on one side to the other. Everything a proxy does costs at least this. Used by `make bench` only.
 *
 *   floor PORT-TO-LISTEN-ON PORT-TO-CONNECT-TO
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FDS = 65536, EVENTS = 256, BUFFER = 32768 };

static int peer[FDS];
static char buffer[BUFFER];

static void nodelay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void end(int fd) {
    if (peer[fd] >= 0) {
        close(peer[fd]);
        peer[peer[fd]] = -1;
    }
    close(fd);
    peer[fd] = -1;
}

static void copy(int fd) {
    ssize_t got = recv(fd, buffer, BUFFER, 0);
    if (got <= 0) {
        end(fd);
        return;
    }
    /* A full socket is waited for: with one thread there is no queue to keep. */
    for (ssize_t sent = 0; sent < got;) {
        ssize_t n = send(peer[fd], buffer + sent, got - sent, MSG_NOSIGNAL);
        if (n < 0) {
            end(fd);
            return;
        }
        sent += n;
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "floor PORT-TO-LISTEN-ON PORT-TO-CONNECT-TO\n");
        return 2;
    }
    memset(peer, -1, sizeof peer);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    here.sin_addr.s_addr = there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 512)) {
        perror("floor");
        return 1;
    }
    int epoll = epoll_create1(0);
    watch(epoll, listener);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        int calls = 0;
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) calls = 1;
            else if (peer[fd] >= 0) copy(fd);
        }
        /* After the others: a descriptor that has just been closed may come back as a new one. */
        if (calls) {
            int client = accept(listener, 0, 0), server = socket(AF_INET, SOCK_STREAM, 0);
            if (client < 0 || server < 0 || client >= FDS || server >= FDS ||
                connect(server, (struct sockaddr *)&there, sizeof there)) {
                close(client);
                close(server);
                continue;
            }
            nodelay(client);
            nodelay(server);
            peer[client] = server;
            peer[server] = client;
            watch(epoll, client);
            watch(epoll, server);
        }
    }
}
