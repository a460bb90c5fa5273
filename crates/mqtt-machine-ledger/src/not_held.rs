//! Owns the statements that bind a client and that no test holds yet, each with the reason. The aim is that there are none.

use crate::statements::Version;

use Version::V5;

/// Version, statement, why not.
pub(crate) const NOT_HELD: &[(Version, &str, &str)] = &[(
    V5,
    "MQTT-3.2.2-4",
    "a session that is present is refused after a clean start; under `CleanStart::Never` a client that was just made takes \
         whatever session the server has, as that option says",
)];
