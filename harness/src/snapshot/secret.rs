//! Recognises a JSON Web Token by decoding its header, not by how it looks.

use serde_json::Value as Json;

/// Whether `text` is three base64url parts of which the first is a JOSE header (RFC 7519, RFC 7515 section 4).
pub(super) fn is_jwt(text: &str) -> bool {
    let mut parts = text.split('.');
    let (Some(header), Some(payload), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Some(header) = decode_base64url(header) else {
        return false;
    };
    let is_header = serde_json::from_slice::<Json>(&header).is_ok_and(|json| json.get("alg").is_some());
    is_header && decode_base64url(payload).is_some()
}

/// RFC 4648 section 5, without padding.
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_header() {
        // {"alg":"HS256","typ":"JWT"} . {"sub":"1"} . three bytes
        assert!(is_jwt("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.AAAA"));
        assert!(!is_jwt("orders.shipped.dlq"));
        assert!(!is_jwt("eyJhIjoxfQ.eyJzdWIiOiIxIn0.AAAA"), "a header names its algorithm");
        assert!(!is_jwt("127.0.0.1"));
    }
}
