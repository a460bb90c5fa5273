//! Owns the functions that C calls. It must not know what brings an allocator: with `std` or without, the same.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use core::ffi::{CStr, c_char, c_int};
use core::slice;
use core::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::{
    Action, Config, Disconnect, Event, Instant, Machine, Message, Outcome, Output, QoS, ReasonCode, Receipt,
    Server, Subscribe, TopicFilter, TransportEvent, TransportId,
};

/// A machine with the buffers that C does not own.
#[derive(Debug)]
pub struct Handle {
    machine: Machine,
    output: Output,
    input: BytesMut,
    /// The message that the last event showed: its bytes stay until the next call.
    shown: Option<(Message, Receipt)>,
}

/// `struct mqtt_action`.
#[repr(C)]
#[derive(Debug)]
pub struct CAction {
    kind: u32,
    transport: u64,
}

/// `struct mqtt_event`.
#[repr(C)]
#[derive(Debug)]
pub struct CEvent {
    kind: u32,
    ok: u32,
    operation: u64,
    topic: *const u8,
    topic_len: usize,
    payload: *const u8,
    payload_len: usize,
}

const OPEN: u32 = 1;
const CLOSE: u32 = 2;
const CONNECTED: u32 = 1;
const MESSAGE: u32 = 2;
const COMPLETED: u32 = 3;
const DISCONNECTED: u32 = 4;
const ENDED: u32 = 5;

impl CEvent {
    const fn of(kind: u32) -> Self {
        Self {
            kind,
            ok: 0,
            operation: 0,
            topic: core::ptr::null(),
            topic_len: 0,
            payload: core::ptr::null(),
            payload_len: 0,
        }
    }
}

const fn at(now: u64) -> Instant {
    Instant::from_micros(now)
}

/// # Safety
/// `text` is null or a C string that lives as long as the result is used.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// # Safety
/// `bytes` points to `count` bytes that live as long as the result is used, or `count` is 0.
unsafe fn view<'a>(bytes: *const u8, count: usize) -> &'a [u8] {
    if count == 0 || bytes.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(bytes, count) }
}

/// # Safety
/// `handle` came from `mqtt_machine_new`, was not given back, and nobody else uses it now.
unsafe fn borrow<'a>(handle: *mut Handle) -> Option<&'a mut Handle> {
    // SAFETY: the caller's promise.
    unsafe { handle.as_mut() }
}

fn operation(accepted: Option<mqtt_machine::OpId>) -> i64 {
    accepted.and_then(|op| i64::try_from(op.to_u64()).ok()).unwrap_or(-1)
}

/// See the header.
///
/// # Safety
/// `client_id` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_new(client_id: *const c_char, seed: u64, now: u64) -> *mut Handle {
    // SAFETY: the caller's promise.
    let Some(client_id) = (unsafe { text(client_id) }) else { return core::ptr::null_mut() };
    let config = Config::new(Server::new("c")).client_id(client_id);
    let machine = Machine::new(config.into(), seed, at(now));
    let handle = Handle { machine, output: Output::new(), input: BytesMut::new(), shown: None };
    Box::into_raw(Box::new(handle))
}

/// See the header.
///
/// # Safety
/// `handle` came from `mqtt_machine_new`, or is null, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_free(handle: *mut Handle) {
    if !handle.is_null() {
        // SAFETY: it came from `Box::into_raw`, and the caller gives it back once.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// See the header.
///
/// # Safety
/// As `borrow`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_connect(handle: *mut Handle, now: u64) -> c_int {
    // SAFETY: the caller's promise.
    let Some(handle) = (unsafe { borrow(handle) }) else { return -1 };
    handle.machine.connect(at(now)).map_or(-1, |()| 0)
}

/// See the header.
///
/// # Safety
/// As `borrow`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_disconnect(handle: *mut Handle, now: u64, drain: u64) -> c_int {
    // SAFETY: the caller's promise.
    let Some(handle) = (unsafe { borrow(handle) }) else { return -1 };
    let request = Disconnect::new(Duration::from_micros(drain));
    handle.machine.disconnect(at(now), request).map_or(-1, |_| 0)
}

/// See the header.
///
/// # Safety
/// As `borrow`, `text` and `view`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_publish(
    handle: *mut Handle,
    now: u64,
    topic: *const c_char,
    payload: *const u8,
    payload_len: usize,
    qos: u8,
) -> i64 {
    // SAFETY: the caller's promise.
    let (handle, topic, payload) = unsafe { (borrow(handle), text(topic), view(payload, payload_len)) };
    let publish = || {
        let message = Message::to(topic?, Bytes::copy_from_slice(payload)).ok()?.qos(QoS::from_u8(qos)?);
        handle?.machine.publish(at(now), message).ok()
    };
    operation(publish())
}

/// See the header.
///
/// # Safety
/// As `borrow` and `text`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_subscribe(
    handle: *mut Handle,
    now: u64,
    filter: *const c_char,
    qos: u8,
) -> i64 {
    // SAFETY: the caller's promise.
    let (handle, filter) = unsafe { (borrow(handle), text(filter)) };
    let subscribe = || {
        let request = Subscribe::to(TopicFilter::new(filter?).ok()?, QoS::from_u8(qos)?);
        handle?.machine.subscribe(at(now), request).ok()
    };
    operation(subscribe())
}

/// See the header.
///
/// # Safety
/// As `borrow`, and `action` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_poll_action(handle: *mut Handle, action: *mut CAction) -> c_int {
    // SAFETY: the caller's promise.
    let (Some(handle), false) = (unsafe { borrow(handle) }, action.is_null()) else { return 0 };
    while let Some(wanted) = handle.machine.poll_action() {
        let (kind, id) = match wanted {
            Action::OpenTransport { id, .. } => {
                handle.output.clear();
                handle.input.clear();
                (OPEN, id)
            }
            Action::CloseTransport { id } => (CLOSE, id),
            // Records and questions are asked for in the configuration, and this one does not.
            _ => continue,
        };
        // SAFETY: the caller's promise.
        unsafe { action.write(CAction { kind, transport: id.to_u64() }) };
        return 1;
    }
    0
}

/// See the header.
///
/// # Safety
/// As `borrow`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_opened(handle: *mut Handle, now: u64, transport: u64, opened: c_int) {
    // SAFETY: the caller's promise.
    let Some(handle) = (unsafe { borrow(handle) }) else { return };
    let event = match opened {
        0 => TransportEvent::OpenFailed("the caller could not open it".to_owned()),
        _ => TransportEvent::Opened,
    };
    handle.machine.handle_transport(at(now), TransportId::new(transport), event);
}

/// See the header.
///
/// # Safety
/// As `borrow`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_closed(handle: *mut Handle, now: u64, transport: u64) {
    // SAFETY: the caller's promise.
    let Some(handle) = (unsafe { borrow(handle) }) else { return };
    handle.machine.handle_transport(at(now), TransportId::new(transport), TransportEvent::Closed(None));
}

/// See the header.
///
/// # Safety
/// As `borrow`, and `bytes` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_output(handle: *mut Handle, now: u64, bytes: *mut *const u8) -> usize {
    // SAFETY: the caller's promise.
    let (Some(handle), false) = (unsafe { borrow(handle) }, bytes.is_null()) else { return 0 };
    handle.machine.transmit(at(now), &mut handle.output);
    let chunk = handle.output.chunk();
    // SAFETY: the caller's promise.
    unsafe { bytes.write(chunk.as_ptr()) };
    chunk.len()
}

/// See the header.
///
/// # Safety
/// As `borrow`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_sent(handle: *mut Handle, now: u64, transport: u64, count: usize) {
    // SAFETY: the caller's promise.
    let Some(handle) = (unsafe { borrow(handle) }) else { return };
    let count = count.min(handle.output.remaining());
    handle.output.advance(count);
    handle.machine.handle_sent(at(now), TransportId::new(transport), count);
}

/// See the header.
///
/// # Safety
/// `handle` came from `mqtt_machine_new` and was not given back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_read_capacity(handle: *const Handle) -> usize {
    // SAFETY: the caller's promise.
    unsafe { handle.as_ref() }.map_or(0, |handle| handle.machine.read_capacity())
}

/// See the header.
///
/// # Safety
/// As `borrow` and `view`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_received(
    handle: *mut Handle,
    now: u64,
    transport: u64,
    bytes: *const u8,
    count: usize,
) {
    // SAFETY: the caller's promise.
    let (Some(handle), bytes) = (unsafe { (borrow(handle), view(bytes, count)) }) else { return };
    handle.input.extend_from_slice(bytes);
    handle.machine.handle_input(at(now), TransportId::new(transport), &mut handle.input);
}

/// See the header.
///
/// # Safety
/// As `borrow`, and `event` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_poll_event(handle: *mut Handle, now: u64, event: *mut CEvent) -> c_int {
    // SAFETY: the caller's promise.
    let (Some(handle), false) = (unsafe { borrow(handle) }, event.is_null()) else { return 0 };
    if let Some((_, receipt)) = handle.shown.take() {
        handle.machine.settle(at(now), receipt, ReasonCode::Success);
    }
    while let Some(told) = handle.machine.poll_event() {
        let shown = match told {
            Event::Connected(_) => CEvent::of(CONNECTED),
            Event::Message { message, receipt } => {
                let (message, _) = handle.shown.insert((message, receipt));
                CEvent {
                    topic: message.topic.as_bytes().as_ptr(),
                    topic_len: message.topic.as_bytes().len(),
                    payload: message.payload.as_ptr(),
                    payload_len: message.payload.len(),
                    ..CEvent::of(MESSAGE)
                }
            }
            Event::Completed { outcome: Outcome::Disconnected { .. }, .. } => CEvent::of(ENDED),
            Event::Completed { op, outcome } => {
                let ok = matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_))
                    || matches!(&outcome, Outcome::Subscribed(codes) if codes.codes.iter().all(|code| !code.is_failure()));
                CEvent { ok: u32::from(ok), operation: op.to_u64(), ..CEvent::of(COMPLETED) }
            }
            Event::ConnectFailed(_) | Event::Disconnected(_) => CEvent::of(DISCONNECTED),
            _ => continue,
        };
        // SAFETY: the caller's promise.
        unsafe { event.write(shown) };
        return 1;
    }
    0
}

/// See the header.
///
/// # Safety
/// `handle` came from `mqtt_machine_new` and was not given back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_deadline(handle: *const Handle) -> u64 {
    // SAFETY: the caller's promise.
    let deadline = unsafe { handle.as_ref() }.and_then(|handle| handle.machine.poll_timeout());
    deadline.map_or(u64::MAX, Instant::as_micros)
}

/// See the header.
///
/// # Safety
/// As `borrow`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mqtt_machine_timeout(handle: *mut Handle, now: u64) {
    // SAFETY: the caller's promise.
    let Some(handle) = (unsafe { borrow(handle) }) else { return };
    handle.machine.handle_timeout(at(now));
}
