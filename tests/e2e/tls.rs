//! Tests of the API over TLS, with certificates that the tests create.

use std::{path::Path, sync::Arc, time::Duration};

use drover_tests::{Process, RedisServer, TIME_LIMIT};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer},
};

use crate::{
    System,
    raw_client::{LIVEZ_REQUEST, RawClient},
};

/// A certificate for `localhost`, in the files of a folder.
struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    fn new() -> (Self, CertificateDer<'static>) {
        let certificate = Self { folder: tempfile::tempdir().unwrap() };
        let renewed_certificate = certificate.renew();
        (certificate, renewed_certificate)
    }

    fn renew(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        // A renewal of a certificate may write the certificate and the key one after the other.
        std::fs::write(self.path("tls.crt"), cert.pem()).unwrap();
        std::fs::write(self.path("tls.key"), signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn tls_config(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        let (certificate, key) = (path("tls.crt"), path("tls.key"));
        format!("[api]\nheader_timeout = \"1s\"\ntls = {{ certificate = {certificate:?}, key = {key:?} }}\n")
    }
}

fn start_system(config: &str) -> System {
    let redis = RedisServer::start();
    let url = redis.url();
    let system = System::launch(redis, url, config);
    system.api.wait_for_log("listening");
    system
}

/// Connects to the API, and performs the TLS handshake.
async fn connect(system: &System, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(system.api_port.address()).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

#[tokio::test]
async fn api_uses_tls_only_if_a_certificate_is_configured() {
    let (certificate, trusted) = Certificate::new();
    let mut system = start_system(&certificate.tls_config());
    let stream = connect(&system, &trusted).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut client = RawClient::with_stream(stream);
    for _ in 0..2 {
        let answer = client.request(LIVEZ_REQUEST).await;
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("strict-transport-security: max-age="), "{answer:?}");
    }
    // Plain HTTP gets no answer, and a silent client is disconnected.
    let mut plain_client = system.connect().await;
    plain_client.send(LIVEZ_REQUEST).await;
    assert!(plain_client.read_until_closed().await.is_empty());
    assert!(system.connect().await.read_until_closed().await.is_empty());
    assert!(connect(&system, &Certificate::new().1).await.is_err(), "another certificate is not trusted");
    // An idle connection and a connection in its TLS handshake do not delay the stop.
    let handshaking_client = system.connect().await;
    assert!(system.api.terminate().success());
    assert!(client.read_until_closed().await.is_empty());
    drop(handshaking_client);
}

#[tokio::test]
async fn renewed_certificate_is_used_without_a_restart_and_an_invalid_certificate_is_not_used() {
    let (certificate, first) = Certificate::new();
    let system = start_system(&certificate.tls_config());
    std::fs::write(certificate.path("tls.key"), "no key").unwrap();
    system.api.wait_for_log("the certificate was not renewed");
    let mut old = RawClient::with_stream(connect(&system, &first).await.unwrap());
    assert_eq!(old.request(LIVEZ_REQUEST).await.status, 200);
    let second_certificate = certificate.renew();
    let wait_for_renewal = async {
        while connect(&system, &second_certificate).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(TIME_LIMIT, wait_for_renewal).await.expect("the new certificate is taken");
    assert!(connect(&system, &first).await.is_err());
    assert_eq!(old.request(LIVEZ_REQUEST).await.status, 200, "open connections stay usable");
}

#[test]
fn unusable_certificate_stops_the_start_with_the_reason() {
    let (certificate, _) = Certificate::new();
    let (other, _) = Certificate::new();
    let pem = |path: &Path| path.display().to_string();
    let (valid_certificate, key) = (pem(&certificate.path("tls.crt")), pem(&certificate.path("tls.key")));
    for (certificate, key, expected) in [
        ("/nowhere.crt", key.as_str(), "can't read /nowhere.crt"),
        (&key, &key, "has no certificate as PEM"),
        (&valid_certificate, &valid_certificate, "has no private key as PEM"),
        (&valid_certificate, &pem(&other.path("tls.key")), "the certificate and the key can't be used"),
    ] {
        let env = [
            ("DROVER__API__TLS__CERTIFICATE", certificate),
            ("DROVER__API__TLS__KEY", key),
            ("DROVER__API__BIND", "127.0.0.1:0"),
        ];
        let mut process = Process::start("producer-api", &[], &env);
        process.wait_for_log(expected);
        assert!(!process.wait().success());
    }
}
