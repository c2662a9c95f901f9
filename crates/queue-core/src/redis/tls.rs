//! TLS of connections to Redis: which certificates a process trusts, which certificate it shows, and what the errors mean.

use std::{fs, io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_blocking,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tracing::warn;

/// The certificates of one process. The files of the certificates are read again for each new connection, so renewed certificates
/// need no restart.
pub(crate) struct TlsClient {
    files: TlsFiles,
    /// The content of the files at the last connection, and the configuration that was made from this content.
    latest: Mutex<Option<(Pem, Arc<ClientConfig>)>>,
}

/// The files of the certificates, all as PEM.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsFiles {
    /// The CAs that sign the certificates of servers; defaults to the CAs of the operating system.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate chain and the key that this process shows to servers; defaults to none.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// The content of the files of certificates.
#[derive(PartialEq, Eq)]
struct Pem {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// The reason why certificates can't be used. The error text names the key of the configuration.
#[derive(Debug, Clone, thiserror::Error)]
#[error("redis.tls{0}")]
pub struct InvalidTls(String);

impl TlsClient {
    /// Reads the certificates for the first time.
    pub(crate) fn load(files: TlsFiles) -> Result<Arc<Self>, InvalidTls> {
        let client = Self { files, latest: Mutex::default() };
        client.config()?;
        Ok(Arc::new(client))
    }

    /// Performs the handshake with the server at `host`, whose certificate must be valid for this name.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        self: &Arc<Self>,
        host: &str,
        socket: S,
    ) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let client = Arc::clone(self);
        let config = spawn_blocking(move || client.config()).await?.map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, socket).await.map_err(explain_tls_error)
    }

    /// Returns the configuration for the current content of the files. While the files can't be used, such as in the middle of a
    /// renewal, the previous configuration is kept.
    fn config(&self) -> Result<Arc<ClientConfig>, InvalidTls> {
        let read_files = Pem::read(&self.files);
        let mut latest_client = self.latest.lock();
        let renewed_client = match (&*latest_client, read_files) {
            (Some((known, config)), Ok(pem)) if *known == pem => return Ok(Arc::clone(config)),
            (_, Ok(pem)) => pem.config().map(|config| (pem, Arc::new(config))),
            (_, Err(error)) => Err(error),
        };
        match (renewed_client, &*latest_client) {
            (Ok((pem, config)), _) => {
                *latest_client = Some((pem, Arc::clone(&config)));
                Ok(config)
            }
            (Err(error), Some((_, config))) => {
                warn!(%error, "the certificates for Redis can't be used: the previous certificates are kept");
                Ok(Arc::clone(config))
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl Pem {
    fn read(files: &TlsFiles) -> Result<Self, InvalidTls> {
        // The text of an error does not have the path, because the path may be a misplaced secret.
        let read_pem = |key, path: &PathBuf| {
            fs::read(path).map_err(|error| InvalidTls(format!(".{key}: the file can't be read: {error}")))
        };
        let client = |(certificate, key): &(PathBuf, PathBuf)| {
            Ok((read_pem("certificate", certificate)?, read_pem("key", key)?))
        };
        Ok(Self {
            ca: files.ca.as_ref().map(|path| read_pem("ca", path)).transpose()?,
            client: files.client.as_ref().map(client).transpose()?,
        })
    }

    fn config(&self) -> Result<ClientConfig, InvalidTls> {
        // The configuration uses the default versions (1.2 and 1.3) and ciphers of rustls.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| InvalidTls(format!(": {error}")))?
            .with_root_certificates(self.trusted_cas()?);
        let Some((certificate, key)) = &self.client else { return Ok(config.with_no_client_auth()) };
        let chain = parse_certificates("certificate", certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| InvalidTls(".key: the file has no private key as PEM".into()))?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|error| InvalidTls(format!(": the certificate and the key can't be used: {error}")))
    }

    fn trusted_cas(&self) -> Result<RootCertStore, InvalidTls> {
        let mut trusted = RootCertStore::empty();
        let certificates = match &self.ca {
            Some(ca) => parse_certificates("ca", ca)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let (added, _) = trusted.add_parsable_certificates(certificates);
        match (&self.ca, added) {
            (Some(_), 0) => Err(InvalidTls(".ca: the file has no certificate that can be used".into())),
            (None, 0) => Err(InvalidTls(
                ".ca: the operating system has no list of trusted certificates: name the file of the CA of Redis"
                    .into(),
            )),
            _ => Ok(trusted),
        }
    }
}

fn parse_certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let found_certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if found_certificates.is_empty() {
        Err(InvalidTls(format!(".{key}: the file has no certificate as PEM")))
    } else {
        Ok(found_certificates)
    }
}

/// Returns a TLS error whose text says what the error means and what to do. An error that is no TLS error is returned unchanged.
pub(crate) fn explain_tls_error(error: io::Error) -> io::Error {
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) else { return error };
    let explanation = match cause {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the certificate of Redis is signed by none of the trusted CAs: name the file of its CA in redis.tls.ca"
                .into()
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the certificate of Redis has expired: renew it".into()
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the certificate of Redis is not valid yet: correct its dates, or the clock of this machine".into()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the certificate of Redis is not valid for the host in redis.url: use a name that stands in the certificate"
                .into()
        }
        Error::InvalidCertificate(reason) => format!("the certificate of Redis can't be used: {reason}"),
        Error::InvalidMessage(_) => {
            "the server does not speak TLS at this port: correct the port, or write redis:// in redis.url".into()
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => "Redis refuses the client certificate, or wants one: set redis.tls.certificate and redis.tls.key to one that Redis trusts".into(),
        other => format!("TLS failed: {other}"),
    };
    io::Error::new(error.kind(), explanation)
}
