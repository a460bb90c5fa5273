//! Owns the bodies of the fuzz targets, as ordinary functions of bytes: a target calls one, and a test calls each over
//! the kept inputs. It must not know which fuzzer runs it.

mod broker;
mod codec;
mod dial;
mod differential;
mod endpoint;
mod filters;
mod journal;
mod layers;
mod machine;
mod stack;
mod transcript;

use mqtt_machine::ProtocolVersion;

/// One fuzz target.
pub struct Target {
    /// The name of its file in `fuzz_targets/` and of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics when what it holds does not, for this input.
    pub body: fn(&[u8]),
}

const fn target(name: &'static str, body: fn(&[u8])) -> Target {
    Target { name, body }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("broker_bytes", broker::bytes),
    target("broker_packets", broker::packets),
    target("codec_decode", codec::decode_any),
    target("codec_differential", differential::compare),
    target("codec_near_valid", codec::near_valid),
    target("codec_roundtrip", codec::roundtrip),
    target("codec_stream", codec::stream),
    target("dial", dial::any_order),
    target("endpoint", endpoint::parse),
    target("filter_map", filters::map),
    target("journal_record", journal::record),
    target("layer_http_proxy", layers::http_proxy),
    target("layer_socks5", layers::socks5),
    target("layer_tls", layers::tls),
    target("layer_websocket", layers::websocket),
    target("layers", layers::input),
    target("machine_bytes", machine::bytes),
    target("machine_chunking", machine::chunking),
    target("machine_script", machine::script),
    target("stack", stack::any_order),
    target("store_rows", journal::store),
    target("transcript", transcript::replay),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is no such target, or its input shows a fault.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).body)(data);
}

/// The version that a choice of the fuzzer's stands for.
const fn version(choice: u8) -> ProtocolVersion {
    match choice % 3 {
        0 => ProtocolVersion::V5,
        1 => ProtocolVersion::V3_1_1,
        _ => ProtocolVersion::V3_1,
    }
}
