//! Trust in receivers: the authorities of the system, and those of a file.

use std::sync::Arc;

use service::config::FilePath;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// How receivers prove who they are: by the authorities of the system, and those in a file.
///
/// # Errors
///
/// When the file can't be read or holds no certificate, or when there is no authority at all but one is needed.
pub(super) fn client_config(ca_file: Option<&FilePath>, is_needed: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if is_needed {
        // Those that can't be read are of no use to anybody; whether any are left is what counts.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca_file {
        let at = |what: String| format!("ca_file: {path}: {what}");
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| at(format!("can't be read: {error}")))?;
        if certificates.is_empty() {
            return Err(at("there is no certificate as PEM in it".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| at(error.to_string()))?;
        }
    }
    if is_needed && roots.is_empty() {
        return Err("there are no certificates of authorities on this system, so nobody could be trusted: install \
                    ca-certificates, or name some in ca_file"
            .into());
    }
    let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}
