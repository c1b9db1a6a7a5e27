//! A node that answers HTTPS, and commands that ask it.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use std::io::{Read as _, Write as _};

use common::{Home, Node};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Writes `NAME.cert` and `NAME.key` into the home: for `host`, and signed by itself.
fn alone(home: &Home, name: &str, host: &str, is_ca: bool) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let cert = params.self_signed(&key).unwrap();
    std::fs::write(home.path(&format!("{name}.cert")), cert.pem()).unwrap();
    std::fs::write(home.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// Writes the same, signed by another whose certificate is in `ca.cert`.
fn signed(home: &Home, name: &str, host: &str) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(home.path("ca.cert"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let cert = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    std::fs::write(home.path(&format!("{name}.cert")), cert.pem()).unwrap();
    std::fs::write(home.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// Starts a node on the store `a` that answers under the certificate `name`.
fn serve(home: &Home, name: &str) -> Node {
    let (cert, key) = (format!("{name}.cert"), format!("{name}.key"));
    home.serve("a", &["--http", "127.0.0.1:0", "--http-cert", &cert, "--http-key", &key])
}

#[test]
fn commands_ask_a_node_whose_certificate_they_trust_and_no_other() {
    let home = Home::new();
    alone(&home, "leaf", "127.0.0.1", false);
    alone(&home, "both", "127.0.0.1", true);
    alone(&home, "other", "other.example", true);
    signed(&home, "signed", "127.0.0.1");
    home.ok("a", &["put", "k", "v"]);
    for (name, trusted) in [("leaf", "leaf"), ("both", "both"), ("signed", "ca")] {
        let node = serve(&home, name);
        assert_eq!(node.ready["https"], true);
        let url = format!("https://{}", node.http());
        let cacert = format!("{trusted}.cert");
        let far = ["--url", &url, "--cacert", &cacert];
        assert_eq!(home.ok("a", &[&["get", "k"][..], &far].concat()), "v", "{name}");
        home.ok("a", &[&["put", name, "written"][..], &far].concat());
        assert_eq!(home.json("a", &[&["status"][..], &far].concat())["https"], true);
        let refused = home.fails("a", 5, &["get", "k", "--url", &url, "--cacert", "other.cert"]);
        assert_eq!(refused["code"], "unauthorised", "{refused}");
        assert!(refused["hint"].as_str().unwrap().contains("--cacert"), "{refused}");
        // Whom the system knows.
        let ask = |known: &str| {
            let mut command = home.command("a");
            command.env("SSL_CERT_FILE", home.path(known)).args(["get", "k", "--url", &url]);
            command.output().unwrap().status.code()
        };
        assert_eq!(ask("other.cert"), Some(5), "{name}");
        if name != "both" {
            assert_eq!(ask(&cacert), Some(0), "{name}");
        }
        node.stop();
        assert_eq!(home.ok("a", &["get", name]), "written");
    }
    // For another host it is not good, whoever signed it.
    let node = serve(&home, "other");
    let url = format!("https://{}", node.http());
    let refused = home.fails("a", 5, &["get", "k", "--url", &url, "--cacert", "other.cert"]);
    assert_eq!(refused["code"], "unauthorised", "{refused}");
    node.stop();
}

#[test]
fn who_speaks_the_other_way_is_refused_and_others_served() {
    let home = Home::new();
    alone(&home, "leaf", "127.0.0.1", false);
    home.ok("a", &["put", "k", "v"]);
    let node = serve(&home, "leaf");
    // Strangers who say nothing, noise, or half of something.
    let mut idle: Vec<_> = (0..200).map(|_| node.connect()).collect();
    for (at, stream) in idle.iter_mut().enumerate() {
        let noise: &[&[u8]] = &[b"", b"\x16\x03\x01\x02", b"\x00\xff", b"GET / HT"];
        let _ = stream.write_all(noise[at % noise.len()]);
    }
    let mut plain = node.connect();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
    let url = |scheme: &str| format!("{scheme}://{}", node.http());
    home.fails("a", 2, &["get", "k", "--url", &url("http")]);
    let far = ["get", "k", "--url", &url("https"), "--cacert", "leaf.cert"];
    assert_eq!(home.ok("a", &far), "v");
    drop(idle);
    node.stop();
    let node = home.serve("a", &["--http", "127.0.0.1:0"]);
    assert_eq!(node.ready["https"], false);
    let url = format!("https://{}", node.http());
    let refused = home.fails("a", 6, &["get", "k", "--url", &url, "--cacert", "leaf.cert"]);
    assert_eq!(refused["code"], "unavailable", "{refused}");
    node.stop();
}

#[test]
fn off_loopback_there_is_a_certificate_or_no_http() {
    let home = Home::new();
    alone(&home, "leaf", "127.0.0.1", false);
    alone(&home, "more", "127.0.0.1", false);
    std::fs::write(home.path("empty"), "").unwrap();
    let tried = |status: i32, words: &[&str]| {
        let listen = ["serve", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"];
        home.fails("a", status, &[&listen[..], words].concat())
    };
    let refused = tried(2, &[]);
    assert!(refused["hint"].as_str().unwrap().contains("--http-cert"), "{refused}");
    tried(2, &["--http-cert", "leaf.cert"]);
    tried(2, &["--http-cert", "leaf.cert", "--http-key", "more.key"]);
    tried(2, &["--http-cert", "empty", "--http-key", "leaf.key"]);
    tried(2, &["--http-cert", "leaf.cert", "--http-key", "empty"]);
    tried(2, &["--http-cert", "leaf.key", "--http-key", "leaf.cert"]);
    tried(3, &["--http-cert", "nowhere", "--http-key", "leaf.key"]);
    let with = ["--http", "0.0.0.0:0", "--http-cert", "leaf.cert", "--http-key", "leaf.key"];
    let node = home.serve("a", &with);
    let port = node.http().rsplit(':').next().unwrap();
    let url = format!("https://127.0.0.1:{port}");
    home.ok("a", &["put", "k", "v", "--url", &url, "--cacert", "leaf.cert"]);
    assert_eq!(home.ok("a", &["get", "k"]), "v");
    let refused = home.fails("a", 3, &["get", "k", "--url", &url, "--cacert", "nowhere"]);
    assert_eq!(refused["code"], "not_found", "{refused}");
    node.stop();
}
