/* A client in C over a TCP socket and poll(2): subscribes, publishes a message, prints it when it comes back, and disconnects.
 *
 *     client 127.0.0.1 1883 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mqtt_machine.h"

static uint64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
}

static int dial(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int socket_ = socket(AF_INET, SOCK_STREAM, 0);
    if (socket_ < 0) {
        return -1;
    }
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
        connect(socket_, (struct sockaddr *)&address, sizeof address) != 0) {
        close(socket_);
        return -1;
    }
    return socket_;
}

/* Tells what happened. 1: the client has ended. */
static int take_events(mqtt_machine *machine) {
    struct mqtt_event event;
    while (mqtt_machine_poll_event(machine, now_us(), &event)) {
        switch (event.kind) {
        case MQTT_CONNECTED:
            printf("connected\n");
            break;
        case MQTT_MESSAGE:
            printf("%.*s %.*s\n", (int)event.topic_len, (const char *)event.topic, (int)event.payload_len,
                   (const char *)event.payload);
            mqtt_machine_disconnect(machine, now_us(), 1000000);
            break;
        case MQTT_COMPLETED:
            printf("operation %llu: %s\n", (unsigned long long)event.operation, event.ok ? "ok" : "failed");
            break;
        case MQTT_DISCONNECTED:
            printf("disconnected\n");
            break;
        case MQTT_ENDED:
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *host = argc > 1 ? argv[1] : "127.0.0.1";
    int port = argc > 2 ? atoi(argv[2]) : 1883;
    int link = -1;
    uint64_t transport = 0;
    mqtt_machine *machine = mqtt_machine_new("c-client", now_us(), now_us());
    if (machine == NULL || mqtt_machine_subscribe(machine, now_us(), "from/#", 2) < 0 ||
        mqtt_machine_publish(machine, now_us(), "from/c", (const uint8_t *)"hello", 5, 1) < 0 ||
        mqtt_machine_connect(machine, now_us()) != 0) {
        return 2;
    }
    while (!take_events(machine)) {
        struct mqtt_action action;
        while (mqtt_machine_poll_action(machine, &action)) {
            if (link >= 0) {
                close(link);
                link = -1;
            }
            if (action.kind == MQTT_OPEN) {
                transport = action.transport;
                link = dial(host, port);
                mqtt_machine_opened(machine, now_us(), transport, link >= 0);
            }
        }
        const uint8_t *bytes;
        size_t count;
        while (link >= 0 && (count = mqtt_machine_output(machine, now_us(), &bytes)) > 0) {
            ssize_t sent = send(link, bytes, count, MSG_NOSIGNAL);
            if (sent < 0) {
                mqtt_machine_closed(machine, now_us(), transport);
                break;
            }
            mqtt_machine_sent(machine, now_us(), transport, (size_t)sent);
        }
        uint64_t deadline = mqtt_machine_deadline(machine), now = now_us();
        int wait = deadline == MQTT_NEVER ? -1 : deadline <= now ? 0 : (int)((deadline - now) / 1000 + 1);
        size_t room = mqtt_machine_read_capacity(machine);
        struct pollfd ready = {.fd = room > 0 ? link : -1, .events = POLLIN};
        /* Events may be there already: then it is no time to wait. */
        if (take_events(machine)) {
            break;
        }
        if (poll(&ready, 1, wait < 100 && wait >= 0 ? wait : 100) > 0) {
            uint8_t buffer[4096];
            ssize_t got = recv(link, buffer, room < sizeof buffer ? room : sizeof buffer, 0);
            if (got > 0) {
                mqtt_machine_received(machine, now_us(), transport, buffer, (size_t)got);
            } else {
                mqtt_machine_closed(machine, now_us(), transport);
            }
        }
        mqtt_machine_timeout(machine, now_us());
    }
    if (link >= 0) {
        close(link);
    }
    mqtt_machine_free(machine);
    return 0;
}
