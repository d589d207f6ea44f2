//! Hashes, signatures and encodings.

use ::base64::Engine as _;
use ::base64::alphabet::STANDARD as ALPHABET;
use ::base64::engine::DecodePaddingMode;
use ::base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};
use ::md5::{Digest as _, Md5};
use ::sha1::Sha1;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, Mac};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use sha2::Sha256;

use super::{Arg, value_at};
use crate::manifest::value::Value;

/// Reads base64 with or without the padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of a value: bytes as they are, a text's own.
fn bytes(value: &Value<'_>) -> Option<Vec<u8>> {
    match value {
        Value::Bytes(bytes) => Some(bytes.clone()),
        Value::Text(text) | Value::Number(text) => Some(text.as_bytes().to_vec()),
        Value::Date(_) => value.as_text().map(|text| text.into_owned().into_bytes()),
        _ => None,
    }
}

pub(super) fn md5<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::text(hex_text(&Md5::digest(bytes(&input)?))))
}

pub(super) fn sha1<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::text(hex_text(&Sha1::digest(bytes(&input)?))))
}

pub(super) fn sha256<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::text(hex_text(&Sha256::digest(bytes(&input)?))))
}

pub(super) fn hmac_sha1<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(&bytes(value_at(args, 0)?)?).ok()?;
    mac.update(&bytes(&input)?);
    Some(Value::Bytes(mac.finalize().into_bytes().to_vec()))
}

pub(super) fn hmac_sha256<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&bytes(value_at(args, 0)?)?).ok()?;
    mac.update(&bytes(&input)?);
    Some(Value::Bytes(mac.finalize().into_bytes().to_vec()))
}

/// Signs with a key of 32 bytes, or of 64 whose second half is the public key and must fit.
pub(super) fn ed25519<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let key = bytes(value_at(args, 0)?)?;
    let key = match <&[u8; 64]>::try_from(key.as_slice()) {
        Ok(pair) => SigningKey::from_keypair_bytes(pair).ok()?,
        Err(_) => SigningKey::from_bytes(key.as_slice().try_into().ok()?),
    };
    Some(Value::Bytes(key.sign(&bytes(&input)?).to_bytes().to_vec()))
}

/// Signs with an RSA key, PKCS #1 v1.5 and SHA-256, as JSON Web Tokens ask for: a PEM text in PKCS #8 or PKCS #1. The
/// same bytes always get the same signature.
pub(super) fn rs256<'a>(input: Value<'a>, args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let key = rsa_key(&value_at(args, 0)?.as_text()?)?;
    let mut signature = vec![0; key.public().modulus_len()];
    // The randomness blinds the computation and does not show in the result.
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &bytes(&input)?, &mut signature).ok()?;
    Some(Value::Bytes(signature))
}

/// A private key of a PEM text. Line breaks may have become `\n` on the way through environment variables.
fn rsa_key(pem: &str) -> Option<RsaKeyPair> {
    let pem = pem.replace("\\n", "\n");
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    let (kind, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.split_whitespace().collect();
    let der = LENIENT.decode(body).ok()?;
    match kind {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der).ok(),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der).ok(),
        _ => None,
    }
}

pub(super) fn hex<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::text(hex_text(&bytes(&input)?)))
}

fn hex_text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

pub(super) fn base64<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::text(STANDARD.encode(bytes(&input)?)))
}

/// In the alphabet for urls, without padding.
pub(super) fn base64url<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    Some(Value::text(URL_SAFE_NO_PAD.encode(bytes(&input)?)))
}

pub(super) fn unbase64<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    LENIENT.decode(input.as_text()?.trim()).ok().map(Value::Bytes)
}

/// The name-based UUID of a text in the URL namespace.
pub(super) fn uuid5<'a>(input: Value<'a>, _args: &[Arg<'a>], _now_ms: i64) -> Option<Value<'a>> {
    let text = input.as_text()?;
    Some(Value::text(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, text.as_bytes()).to_string()))
}
