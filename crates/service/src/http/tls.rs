//! The TLS certificate of a service. The certificate files are read again every few seconds, and a new certificate replaces the
//! old certificate.

use std::{fs, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{task::spawn_blocking, time::sleep};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{FilePath, TlsFiles};

/// The pause between two checks of the certificate files.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The TLS certificate of the server, which is reloaded when its files change.
pub struct Tls {
    files: TlsFiles,
    /// The content of the certificate files when the service started.
    pem: Pem,
    acceptor: Mutex<TlsAcceptor>,
}

/// The error of an invalid TLS certificate. The error text states why the certificate is invalid.
#[derive(Debug, thiserror::Error)]
#[error("api.tls{0}")]
pub struct InvalidTls(String);

impl Tls {
    /// Reads the certificate chain and its private key.
    ///
    /// # Errors
    ///
    /// Returns an error if the files can't be read, or if the key does not belong to the certificate.
    pub fn load(files: &TlsFiles) -> Result<Self, InvalidTls> {
        let pem = Pem::read(files)?;
        Ok(Self { files: files.clone(), acceptor: Mutex::new(pem.acceptor(files)?), pem })
    }

    /// Returns the acceptor for the TLS handshake of new connections.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.lock().clone()
    }

    /// Reloads the certificate when its files change, until `shutdown` is cancelled. Open connections keep the old certificate.
    pub(super) async fn renew_on_change(&self, shutdown: &CancellationToken) {
        // `last_read` is the content of the certificate files that was read last, valid or not, so that each change is logged
        // once.
        let mut last_read = self.pem.clone();
        let mut reported_error = None;
        loop {
            tokio::select! {
                () = sleep(CHECK_INTERVAL) => {}
                () = shutdown.cancelled() => return,
            }
            let files = self.files.clone();
            let Ok(read) = spawn_blocking(move || Pem::read(&files)).await else { continue };
            let renew_result = match read {
                Ok(pem) if pem == last_read => continue,
                Ok(pem) => {
                    last_read = pem;
                    last_read.acceptor(&self.files)
                }
                Err(error) => Err(error),
            };
            match renew_result.map_err(|error| error.to_string()) {
                Ok(acceptor) => {
                    *self.acceptor.lock() = acceptor;
                    reported_error = None;
                    info!("the certificate was renewed");
                }
                Err(error) if reported_error.as_ref() != Some(&error) => {
                    warn!(error, "the certificate was not renewed: the previous certificate is kept");
                    reported_error = Some(error);
                }
                Err(_) => {}
            }
        }
    }
}

/// The content of the certificate files, as PEM.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pem {
    fn read(files: &TlsFiles) -> Result<Self, InvalidTls> {
        let read_pem = |key, path: &FilePath| {
            fs::read(path).map_err(|error| InvalidTls(format!(".{key}: can't read {path}: {error}")))
        };
        Ok(Self { certificate: read_pem("certificate", &files.certificate)?, key: read_pem("key", &files.key)? })
    }

    fn acceptor(&self, files: &TlsFiles) -> Result<TlsAcceptor, InvalidTls> {
        let missing_item = |key, path: &FilePath, what| InvalidTls(format!(".{key}: {path} has no {what} as PEM"));
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| missing_item("certificate", &files.certificate, "certificate"))?;
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| missing_item("key", &files.key, "private key"))?;
        // The TLS versions (1.2 and 1.3) and the ciphers are rustls' defaults.
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        let mut config =
            config.map_err(|error| InvalidTls(format!(": the certificate and the key can't be used: {error}")))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
