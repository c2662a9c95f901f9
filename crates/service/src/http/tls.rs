//! The certificate of a service, which is read again when its files change.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::TlsFiles;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A certificate that answers are encrypted with, renewed when its files change.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    acceptor: watch::Sender<Acceptor>,
}

/// The certificate can't be used; says why.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    /// A file can't be read.
    #[error("api.tls: can't read {path}: {error}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("api.tls: {path} holds no {what} as PEM")]
    Missing {
        /// Which.
        path: String,
        /// What it should hold.
        what: &'static str,
    },
    /// The certificate and the key are of no use together.
    #[error("api.tls: the certificate and the key can't be used: {0}")]
    Unusable(rustls::Error),
}

impl Tls {
    /// Reads the certificate chain and its key.
    ///
    /// # Errors
    ///
    /// When they can't be read or do not belong together.
    pub fn load(files: &TlsFiles) -> Result<Self, InvalidTls> {
        let acceptor = Pem::read(files)?.acceptor()?;
        Ok(Self { files: files.clone(), acceptor: watch::Sender::new(acceptor) })
    }

    /// What shakes hands with new connections.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.borrow().inner.clone()
    }

    /// Looks for another certificate in the files until `shutdown`. Connections that stand keep theirs.
    pub(super) async fn keep_fresh(&self, shutdown: &CancellationToken) {
        // What was found last, be it of use or not: each change is told once.
        let mut seen = self.acceptor.borrow().pem.clone();
        let mut told = None;
        loop {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = shutdown.cancelled() => return,
            }
            let files = self.files.clone();
            let Ok(read) = spawn_blocking(move || Pem::read(&files)).await else { continue };
            let renewed = read.and_then(|pem| {
                if pem == seen {
                    return Ok(None);
                }
                seen = pem.clone();
                pem.acceptor().map(Some)
            });
            match renewed {
                Ok(None) => {}
                Ok(Some(acceptor)) => {
                    self.acceptor.send_replace(acceptor);
                    told = None;
                    info!("the certificate was renewed");
                }
                Err(error) => {
                    let error = error.to_string();
                    if told.as_ref() != Some(&error) {
                        warn!(error, "the certificate was not renewed: the one before is kept");
                        told = Some(error);
                    }
                }
            }
        }
    }
}

struct Acceptor {
    inner: TlsAcceptor,
    pem: Pem,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor(***)")
    }
}

/// What stands in the files.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    files: TlsFiles,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pem {
    fn read(files: &TlsFiles) -> Result<Self, InvalidTls> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| InvalidTls::Unreadable { path: path.display().to_string(), error })
        };
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)?, files: files.clone() })
    }

    fn acceptor(self) -> Result<Acceptor, InvalidTls> {
        let missing = |path: &Path, what| InvalidTls::Missing { path: path.display().to_string(), what };
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| missing(&self.files.certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| missing(&self.files.key, "private key"))?;
        // rustls' own choice of versions (1.2 and 1.3) and ciphers.
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(InvalidTls::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(InvalidTls::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Acceptor { inner: TlsAcceptor::from(Arc::new(config)), pem: self })
    }
}
