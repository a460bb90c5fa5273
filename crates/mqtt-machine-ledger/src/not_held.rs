//! Owns the statements that bind a client and that no test holds yet, each with the reason. The aim is that there are none.

use crate::statements::Version;

use Version::{V3_1_1, V5};

const NO_WEBSOCKET: &str = "there is no WebSocket layer";
const NO_REAUTHENTICATION: &str = "a client cannot begin to authenticate again";

/// Version, statement, why not.
pub(crate) const NOT_HELD: &[(Version, &str, &str)] = &[
    (
        V5,
        "MQTT-3.2.2-4",
        "a session that is present is refused after a clean start; under `CleanStart::Never` a client that was just made takes \
         whatever session the server has, as that option says",
    ),
    (V5, "MQTT-4.12.1-1", NO_REAUTHENTICATION),
    (V5, "MQTT-4.12.1-2", NO_REAUTHENTICATION),
    (V5, "MQTT-6.0.0-1", NO_WEBSOCKET),
    (V5, "MQTT-6.0.0-2", NO_WEBSOCKET),
    (V5, "MQTT-6.0.0-3", NO_WEBSOCKET),
    (V5, "MQTT-6.0.0-4", NO_WEBSOCKET),
    (V3_1_1, "MQTT-6.0.0-1", NO_WEBSOCKET),
    (V3_1_1, "MQTT-6.0.0-2", NO_WEBSOCKET),
    (V3_1_1, "MQTT-6.0.0-3", NO_WEBSOCKET),
    (V3_1_1, "MQTT-6.0.0-4", NO_WEBSOCKET),
];
