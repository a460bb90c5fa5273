//! Owns the numbers that say what follows. They are part of the format: one that was given is never given again.
//! It must not know what the fields behind a number are.

pub(super) const NEW: u8 = 0;
pub(super) const RESTORED: u8 = 1;

/// The last byte of a configuration is a flag; with this bit, more options stand behind it.
pub(super) const MORE: u8 = 2;

/// Records of a restored session.
pub(super) mod record {
    pub(crate) const END: u8 = 0;
    // 1 to 12 were records in a form of their own.
    pub(crate) const RECORD: u8 = 13;
}

/// Calls.
pub(super) mod call {
    pub(crate) const TRANSPORT: u8 = 1;
    pub(crate) const BYTES: u8 = 2;
    pub(crate) const MORE_BYTES: u8 = 3;
    pub(crate) const SENT: u8 = 4;
    pub(crate) const STORED: u8 = 5;
    pub(crate) const STORE_FAILED: u8 = 6;
    pub(crate) const TIMEOUT: u8 = 7;
    pub(crate) const COMMAND: u8 = 8;
    pub(crate) const ANSWER: u8 = 9;
    pub(crate) const TRANSMIT: u8 = 10;
    pub(crate) const POLL_ACTION: u8 = 11;
    pub(crate) const POLL_EVENT: u8 = 12;
    pub(crate) const STOP: u8 = 13;
    /// As `BYTES` and `MORE_BYTES`, with a number of hidden ones behind them.
    pub(crate) const HIDDEN_BYTES: u8 = 14;
    pub(crate) const MORE_HIDDEN_BYTES: u8 = 15;
    pub(crate) const STOP_BUFFER_FULL: [u8; 2] = [STOP, 0];
    pub(crate) const STOP_ASKED: [u8; 2] = [STOP, 1];
}

/// Transport events.
pub(super) mod transport {
    pub(crate) const OPENED: u8 = 1;
    pub(crate) const OPEN_FAILED: u8 = 2;
    pub(crate) const CLOSED: u8 = 3;
}

/// Commands.
pub(super) mod command {
    pub(crate) const PUBLISH: u8 = 1;
    pub(crate) const SUBSCRIBE: u8 = 2;
    pub(crate) const UNSUBSCRIBE: u8 = 3;
    pub(crate) const SETTLE: u8 = 4;
    pub(crate) const CONNECT: u8 = 5;
    pub(crate) const RECONNECT: u8 = 6;
    pub(crate) const DISCONNECT: u8 = 7;
    pub(crate) const RECONFIGURE: u8 = 8;
    pub(crate) const REAUTHENTICATE: u8 = 9;
    /// As `SUBSCRIBE`, with an identifier behind it.
    pub(crate) const SUBSCRIBE_IDENTIFIED: u8 = 10;
    pub(crate) const PUBLISH_KEYED: u8 = 11;
    pub(crate) const FORGET: u8 = 12;
}

/// Answers.
pub(super) mod answer {
    pub(crate) const PREPARED: u8 = 1;
    pub(crate) const NOT_PREPARED: u8 = 2;
    pub(crate) const AUTHENTICATE: u8 = 3;
    /// As `PREPARED`, with authentication data behind it.
    pub(crate) const PREPARED_WITH_DATA: u8 = 4;
}

/// What a call gave.
pub(super) mod said {
    pub(crate) const NOTHING: u8 = 0;
    pub(crate) const ACCEPTED: u8 = 1;
    pub(crate) const REFUSED: u8 = 2;
    pub(crate) const UNREAD: u8 = 3;
    pub(crate) const WROTE: u8 = 4;
    pub(crate) const GAVE: u8 = 5;
}
