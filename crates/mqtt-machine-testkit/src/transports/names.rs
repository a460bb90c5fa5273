//! Owns the scenarios of SRV records, with a name server of its own on loopback. It must not know DNS beyond what it answers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use mqtt_machine_client::{Options, QoS};
use simple_dns::rdata::{RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, ResourceRecord};

use super::{Site, Start, connected, quick, wait};

/// Answers every question for SRV records by one: `localhost`, at a port.
struct NameServer {
    port: u16,
    /// Questions over UDP and over TCP.
    asked: Arc<(AtomicUsize, AtomicUsize)>,
    stop: Arc<AtomicBool>,
}

impl NameServer {
    /// `truncated` answers over UDP say that they are cut short.
    fn start(target: u16, truncated: bool) -> Self {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let server = Self { port, asked: Arc::default(), stop: Arc::default() };
        let (asked, stop) = (Arc::clone(&server.asked), Arc::clone(&server.stop));
        thread::spawn(move || {
            let mut question = [0; 2_048];
            while !stop.load(SeqCst) {
                if let Ok((length, from)) = udp.recv_from(&mut question) {
                    asked.0.fetch_add(1, SeqCst);
                    let answer = answer(&question[..length], target, truncated);
                    let _ = udp.send_to(&answer, from);
                }
                if let Ok((mut stream, _)) = tcp.accept() {
                    asked.1.fetch_add(1, SeqCst);
                    stream.set_nonblocking(false).unwrap();
                    let mut length = [0; 2];
                    stream.read_exact(&mut length).unwrap();
                    let length = usize::from(u16::from_be_bytes(length));
                    stream.read_exact(&mut question[..length]).unwrap();
                    let answer = answer(&question[..length], target, false);
                    let framed = [&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat();
                    stream.write_all(&framed).unwrap();
                }
            }
        });
        server
    }

    fn asked(&self) -> (usize, usize) {
        (self.asked.0.load(SeqCst), self.asked.1.load(SeqCst))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
    }
}

fn answer(question: &[u8], port: u16, truncated: bool) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap();
    let name = packet.questions[0].qname.clone();
    packet.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
    if truncated {
        packet.set_flags(PacketFlag::TRUNCATION);
    } else {
        let srv = SRV { priority: 0, weight: 0, port, target: Name::new("localhost").unwrap() };
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, RData::SRV(srv)));
    }
    packet.build_bytes_vec_compressed().unwrap()
}

fn leads(start: Start<'_>, site: &Site, scheme: &str, names: &NameServer) {
    let url = format!("{scheme}://service.test?nameserver=127.0.0.1:{}", names.port);
    let options = Options::from_url(&url).unwrap().route(|route| route.tls(site.tls(None)));
    let client = start(quick(options, "service")).unwrap();
    connected(&client);
    let stream = wait("a subscription", client.subscribe("t", QoS::AtLeastOnce)).unwrap();
    drop(stream);
    assert_eq!(wait("the end", client.disconnect()).map(|it| it.undelivered), Ok(0));
}

pub(super) fn srv_records_lead_to_the_server(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    let names = NameServer::start(site.ports.tcp, false);
    leads(start, &site, "mqtt+srv", &names);
    assert_eq!(names.asked(), (1, 0));
}

pub(super) fn srv_records_that_are_cut_short_are_asked_for_over_tcp(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    let names = NameServer::start(site.ports.tcp, true);
    leads(start, &site, "mqtt+srv", &names);
    assert_eq!(names.asked(), (1, 1));
}

/// The record leads to `localhost`; the certificate there is for the service.
pub(super) fn srv_records_do_not_change_the_name_that_tls_checks(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    let names = NameServer::start(site.ports.other, false);
    leads(start, &site, "mqtts+srv", &names);
}
