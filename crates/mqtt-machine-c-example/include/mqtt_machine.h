/* An MQTT client as a pure state machine, for C: an example of a binding, not a complete one.
 *
 * A machine has one caller at a time. Times are microseconds since a moment of your choice and never go back.
 * Nothing here reads a clock, opens a socket or waits: that is the caller's part, as c/client.c shows. */
#ifndef MQTT_MACHINE_H
#define MQTT_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mqtt_machine mqtt_machine;

/* No deadline. */
#define MQTT_NEVER UINT64_MAX

enum mqtt_action_kind { MQTT_OPEN = 1, MQTT_CLOSE = 2 };

/* What the machine wants done. */
struct mqtt_action {
    uint32_t kind;      /* enum mqtt_action_kind */
    uint64_t transport; /* which transport */
};

enum mqtt_event_kind {
    MQTT_CONNECTED = 1,
    MQTT_MESSAGE = 2,      /* topic and payload are set */
    MQTT_COMPLETED = 3,    /* operation and ok are set */
    MQTT_DISCONNECTED = 4, /* a connection or an attempt ended */
    MQTT_ENDED = 5         /* what mqtt_machine_disconnect asked for is done */
};

/* What the machine tells. Pointers are good until the next call of mqtt_machine_poll_event or mqtt_machine_free. */
struct mqtt_event {
    uint32_t kind; /* enum mqtt_event_kind */
    uint32_t ok;   /* 1: the operation ended well */
    uint64_t operation;
    const uint8_t *topic;
    size_t topic_len;
    const uint8_t *payload;
    size_t payload_len;
};

/* A machine, or NULL when client_id is not UTF-8. Give it back with mqtt_machine_free. */
mqtt_machine *mqtt_machine_new(const char *client_id, uint64_t seed, uint64_t now);
void mqtt_machine_free(mqtt_machine *machine);

/* Begins to connect. 0, or -1 when it is refused. */
int mqtt_machine_connect(mqtt_machine *machine, uint64_t now);
/* Brings what was accepted to its end within drain microseconds and disconnects. 0, or -1 when it is refused. */
int mqtt_machine_disconnect(mqtt_machine *machine, uint64_t now, uint64_t drain);
/* The number of the operation, which MQTT_COMPLETED names, or -1 when it is refused. */
int64_t mqtt_machine_publish(mqtt_machine *machine, uint64_t now, const char *topic, const uint8_t *payload,
                             size_t payload_len, uint8_t qos);
int64_t mqtt_machine_subscribe(mqtt_machine *machine, uint64_t now, const char *filter, uint8_t qos);

/* 1 and the next action, or 0. */
int mqtt_machine_poll_action(mqtt_machine *machine, struct mqtt_action *action);
/* What became of MQTT_OPEN: opened is 1 or 0. */
void mqtt_machine_opened(mqtt_machine *machine, uint64_t now, uint64_t transport, int opened);
void mqtt_machine_closed(mqtt_machine *machine, uint64_t now, uint64_t transport);

/* Bytes to send on the present transport: their number and where they are, good until the next call. */
size_t mqtt_machine_output(mqtt_machine *machine, uint64_t now, const uint8_t **bytes);
/* So many of them were sent. */
void mqtt_machine_sent(mqtt_machine *machine, uint64_t now, uint64_t transport, size_t count);
/* How many bytes may be read now; 0: do not read. */
size_t mqtt_machine_read_capacity(const mqtt_machine *machine);
void mqtt_machine_received(mqtt_machine *machine, uint64_t now, uint64_t transport, const uint8_t *bytes,
                           size_t count);

/* 1 and the next event, or 0. A message is acknowledged by the next call. */
int mqtt_machine_poll_event(mqtt_machine *machine, uint64_t now, struct mqtt_event *event);

/* The one deadline, or MQTT_NEVER; mqtt_machine_timeout is due then. */
uint64_t mqtt_machine_deadline(const mqtt_machine *machine);
void mqtt_machine_timeout(mqtt_machine *machine, uint64_t now);

#ifdef __cplusplus
}
#endif
#endif
