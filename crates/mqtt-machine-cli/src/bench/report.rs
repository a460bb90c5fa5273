//! Owns what came of a run, as a table and as JSON. It must not know how it was measured.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde_json::json;

use super::meter::Meter;

const HEAD: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// What was asked for.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) publishers: u32,
    pub(super) subscribers: u32,
    pub(super) messages: u64,
    pub(super) size: u32,
    pub(super) qos: u8,
}

impl Setting {
    /// How many messages are published in all.
    pub(super) const fn published(self) -> u64 {
        self.messages.saturating_mul(self.publishers as u64)
    }

    /// How many are received in all, when none is lost.
    pub(super) const fn received(self) -> u64 {
        self.published().saturating_mul(self.subscribers as u64)
    }
}

/// One slice of time: rates per second, latencies in milliseconds.
pub(super) struct Point {
    /// When it begins, in seconds.
    pub(super) at: f64,
    pub(super) published: f64,
    pub(super) received: f64,
    /// Median and 99th percentile, where messages came.
    pub(super) latency: Option<(f64, f64)>,
}

/// Quantiles of the latency, in milliseconds.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

pub(super) struct Report {
    setting: Setting,
    published: u64,
    received: u64,
    failed: u64,
    seconds: f64,
    mean: f64,
    minimum: f64,
    quantiles: Vec<(&'static str, f64)>,
    pub(super) points: Vec<Point>,
}

fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

impl Report {
    pub(super) fn new(setting: Setting, meter: &Meter) -> Self {
        let latency = meter.latency();
        let width = meter.width().as_secs_f64();
        let point = |(number, slice): (usize, &super::meter::Slice)| Point {
            at: number as f64 * width,
            published: slice.published as f64 / width,
            received: slice.received as f64 / width,
            latency: (!slice.latency.is_empty()).then(|| {
                let at = |quantile| milliseconds(slice.latency.value_at_quantile(quantile));
                (at(0.5), at(0.99))
            }),
        };
        let at = |quantile: f64| match quantile {
            // The largest value itself, and not the end of its class.
            1.0 => milliseconds(latency.max()),
            quantile => milliseconds(latency.value_at_quantile(quantile)),
        };
        Self {
            setting,
            published: meter.published_count(),
            received: meter.received_count(),
            failed: meter.failed_count(),
            seconds: meter.duration().as_secs_f64(),
            mean: latency.mean() / 1_000.0,
            minimum: if latency.is_empty() { 0.0 } else { milliseconds(latency.min()) },
            quantiles: QUANTILES.iter().map(|(name, quantile)| (*name, at(*quantile))).collect(),
            points: meter.slices().iter().enumerate().map(point).collect(),
        }
    }

    fn expected(&self) -> u64 {
        self.published.saturating_mul(self.setting.subscribers.into())
    }

    /// Messages that were published and have not come, at whatever QoS.
    fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Messages that should have come: at QoS 0 none is promised.
    pub(super) fn missing(&self) -> u64 {
        if self.setting.qos == 0 { 0 } else { self.lost().saturating_add(self.failed) }
    }

    fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    /// With colours, which a stream that is no terminal takes out.
    pub(super) fn table(&self) -> String {
        let Setting { publishers, subscribers, size, qos, .. } = self.setting;
        let mut text = format!(
            "{publishers} publishers, {subscribers} subscribers, payloads of {size} bytes, QoS {qos}\n\n"
        );
        let _ = writeln!(text, "{HEAD}              messages     per second{HEAD:#}");
        let mut line = |style: Style, name: &str, count: u64, rate: Option<f64>| {
            let rate = rate.map_or_else(String::new, |rate| format!("{rate:>15.0}"));
            let _ = writeln!(text, "{name:<10}{style}{count:>12}{style:#}{rate}");
        };
        let unless_none = |count: u64, style| if count == 0 { Style::new() } else { style };
        line(GOOD, "published", self.published, Some(self.rate(self.published)));
        line(GOOD, "received", self.received, Some(self.rate(self.received)));
        line(unless_none(self.failed, BAD), "failed", self.failed, None);
        line(unless_none(self.missing(), BAD), "lost", self.lost(), None);
        let _ = writeln!(text, "\nin {:.3} s", self.seconds);
        if self.received > 0 {
            let names = self.quantiles.iter().map(|(name, _)| format!("{name:>10}"));
            let values = self.quantiles.iter().map(|(_, value)| format!("{value:>10.3}"));
            let _ = writeln!(
                text,
                "\n{HEAD}{:<10}{:>10}{:>10}{}{HEAD:#}",
                "latency",
                "min",
                "mean",
                names.collect::<String>()
            );
            let (minimum, mean) = (self.minimum, self.mean);
            let _ = writeln!(text, "{:<10}{minimum:>10.3}{mean:>10.3}{}", "ms", values.collect::<String>());
        }
        text
    }

    pub(super) fn json(&self) -> String {
        let Setting { publishers, subscribers, messages, size, qos } = self.setting;
        let mut latency = serde_json::Map::new();
        latency.insert("min".to_owned(), json!(self.minimum));
        latency.insert("mean".to_owned(), json!(self.mean));
        latency.extend(self.quantiles.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        let points = self.points.iter().map(|point| {
            json!({
                "at_seconds": point.at,
                "published_per_second": point.published,
                "received_per_second": point.received,
                "latency_p50_ms": point.latency.map(|(median, _)| median),
                "latency_p99_ms": point.latency.map(|(_, high)| high),
            })
        });
        let report = json!({
            "setting": {
                "publishers": publishers,
                "subscribers": subscribers,
                "messages_per_publisher": messages,
                "payload_bytes": size,
                "qos": qos,
            },
            "published": self.published,
            "received": self.received,
            "failed": self.failed,
            "lost": self.lost(),
            "seconds": self.seconds,
            "published_per_second": self.rate(self.published),
            "received_per_second": self.rate(self.received),
            "latency_ms": latency,
            "over_time": points.collect::<Vec<_>>(),
        });
        format!("{report:#}")
    }
}
