//! Owns the statements that bind a client and that no test holds yet, each with the reason. The aim is that there are none.

use crate::statements::Version;

/// Version, statement, why not.
pub(crate) const NOT_HELD: &[(Version, &str, &str)] = &[];
