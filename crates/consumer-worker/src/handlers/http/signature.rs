//! Signatures of Standard Webhooks.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::WebhookSecret;

/// The signatures of a body as Standard Webhooks have them, one by each secret.
pub(super) fn signatures(secrets: &[WebhookSecret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let sign = |secret: &WebhookSecret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("a key of HMAC may have any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}

/// Now, in seconds since 1970: when an attempt was made, by this machine's clock.
pub(super) fn timestamp() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_that_receivers_expect() {
        // Made with the public library standardwebhooks for Python.
        let secrets: Vec<WebhookSecret> =
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"; 2].map(|s| s.parse().unwrap()).into();
        let body = br#"{"test": 2432232314}"#;
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert_eq!(signatures(&secrets, id, 1_614_265_330, body), format!("{one} {one}"));
        assert_eq!(signatures(&[], id, 1_614_265_330, body), "");
    }
}
