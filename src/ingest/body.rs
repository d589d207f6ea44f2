//! Reading a request's body and inflating it, within bounds: of its size as sent and as inflated, of the time it may
//! take, and of the bytes that all requests together may hold. It does not look at what the bytes say.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Body as HttpBody;
use hyper::header::{CONTENT_ENCODING, EXPECT};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Inflated bytes that every body may have, however small it was.
const SMALL_BYTES: usize = 256 * 1024;
/// How many times its size a larger body may inflate to. Batches of calls reach about 30.
const MAX_RATIO: usize = 200;
/// What is read and thrown away of a body that is refused, so that the client comes to read its answer.
const DRAIN_BYTES: usize = 8 * 1024 * 1024;
/// Memory set aside for a body before its first byte is there.
const FIRST_BYTES: usize = 64 * 1024;

/// Why a body was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than a body may be, as sent or inflated.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// It took too long.
    Slow,
    /// The connection broke, or the chunks were wrong.
    Broken,
    /// It is encoded in a way that is not understood.
    Encoding,
    /// It is not what its encoding says.
    Corrupt,
    /// Too many bytes are being read from others at the moment.
    Busy,
}

/// What bodies may take.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    /// Bytes of one body, as sent and inflated.
    pub max_bytes: usize,
    /// From the head to the last byte.
    pub timeout: Duration,
}

/// The bytes that all requests together may hold; clones share it.
#[derive(Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    total: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Budget {
        let total = bytes.min(Semaphore::MAX_PERMITS);
        Budget { free: Arc::new(Semaphore::new(total)), total }
    }

    fn share(&self) -> Share {
        Share { budget: self.clone(), permit: None }
    }
}

/// A request's part of the budget, given back when dropped.
struct Share {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes more, or says at once that there is none: waiting while holding some could block everyone for ever.
    fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let bytes = u32::try_from(bytes).map_err(|_| BodyError::Busy)?;
        let more = self.budget.free.clone().try_acquire_many_owned(bytes).map_err(|_| BodyError::Busy)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }

    fn shrink(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.permit {
            drop(permit.split(bytes));
        }
    }

    fn resize(&mut self, bytes: usize) -> Result<(), BodyError> {
        let (bytes, held) =
            (bytes.min(self.budget.total), self.permit.as_ref().map_or(0, |permit| permit.num_permits()));
        self.shrink(held.saturating_sub(bytes));
        self.grow(bytes.saturating_sub(held))
    }
}

/// A body that was read; its part of the budget is held until it is dropped.
pub struct Body {
    /// Inflated.
    pub bytes: Bytes,
    share: Option<Share>,
}

impl Body {
    /// A body that takes no part of the budget: what a request's head had room for.
    pub fn small(bytes: Bytes) -> Body {
        Body { bytes, share: None }
    }

    /// From now on its part of the budget is so many bytes; all there are if it is more than that, so that each request
    /// passes by itself.
    pub fn hold(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.share.as_mut().map_or(Ok(()), |share| share.resize(bytes))
    }
}

/// Reads a body and inflates it as `Content-Encoding` says. A body that is refused is read to its end, within bounds.
pub async fn read<B>(
    mut body: B,
    headers: &HeaderMap,
    limits: &BodyLimits,
    budget: &Budget,
) -> Result<Body, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut share = budget.share();
    let deadline = tokio::time::Instant::now() + limits.timeout;
    let sent = match tokio::time::timeout_at(deadline, collect(&mut body, limits.max_bytes, &mut share)).await
    {
        Ok(Ok(sent)) => sent,
        Ok(Err(error)) => {
            drop(share);
            if error != BodyError::Broken {
                drain_until(body, headers, deadline).await;
            }
            return Err(error);
        }
        Err(_) => return Err(BodyError::Slow),
    };
    let bytes = match encoding(headers)? {
        Encoding::Identity => sent,
        encoding => {
            let allowed = limits.max_bytes.min(SMALL_BYTES.max(sent.len().saturating_mul(MAX_RATIO)));
            share.grow(allowed)?;
            let inflated = inflate(&sent, encoding, allowed)?;
            share.shrink(sent.len() + allowed.saturating_sub(inflated.len()));
            Bytes::from(inflated)
        }
    };
    Ok(Body { bytes, share: Some(share) })
}

/// Reads and throws away the body of a request that is refused without looking at it.
pub async fn drain<B>(body: B, headers: &HeaderMap, timeout: Duration)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    drain_until(body, headers, tokio::time::Instant::now() + timeout).await;
}

async fn drain_until<B>(mut body: B, headers: &HeaderMap, deadline: tokio::time::Instant)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    // A client that asks first has not sent its body yet, and need not.
    if headers.contains_key(EXPECT) {
        return;
    }
    let discard = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout_at(deadline, discard).await;
}

/// The body as sent; without a copy where it came in one piece.
async fn collect<B>(body: &mut B, max_bytes: usize, share: &mut Share) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let too_large = BodyError::TooLarge { limit: max_bytes };
    let announced = body.size_hint().lower();
    if announced > max_bytes as u64 {
        return Err(too_large);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        total += data.len();
        if total > max_bytes {
            return Err(too_large);
        }
        share.grow(data.len())?;
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(total.max((announced as usize).min(FIRST_BYTES)));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        // Once that much has come, the rest is believed, and room for it made at one time.
        if all.len() + data.len() > all.capacity() {
            all.reserve((announced as usize).saturating_sub(all.len()).max(data.len()));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Deflate,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, BodyError> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    let value = value.to_str().map_err(|_| BodyError::Encoding)?.trim();
    for (name, encoding) in [
        ("", Encoding::Identity),
        ("identity", Encoding::Identity),
        ("gzip", Encoding::Gzip),
        ("x-gzip", Encoding::Gzip),
        ("deflate", Encoding::Deflate),
    ] {
        if value.eq_ignore_ascii_case(name) {
            return Ok(encoding);
        }
    }
    Err(BodyError::Encoding)
}

/// Inflates to at most `allowed` bytes.
fn inflate(sent: &[u8], encoding: Encoding, allowed: usize) -> Result<Vec<u8>, BodyError> {
    let mut out = Vec::with_capacity(sent.len().saturating_mul(4).min(allowed) + 64);
    match encoding {
        Encoding::Identity => out.extend_from_slice(sent),
        Encoding::Gzip => {
            let limit = allowed as u64 + 1;
            let mut reader = std::io::Read::take(flate2::bufread::MultiGzDecoder::new(sent), limit);
            std::io::Read::read_to_end(&mut reader, &mut out).map_err(|_| BodyError::Corrupt)?;
            if out.len() > allowed {
                return Err(BodyError::TooLarge { limit: allowed });
            }
        }
        // The standard means the zlib form by `deflate`; some clients send the bare one.
        Encoding::Deflate => inflate_block(sent, is_zlib(sent), allowed, &mut out)?,
    }
    Ok(out)
}

fn is_zlib(sent: &[u8]) -> bool {
    match sent {
        [method, flags, ..] => method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0,
        _ => false,
    }
}

fn inflate_block(sent: &[u8], zlib: bool, allowed: usize, out: &mut Vec<u8>) -> Result<(), BodyError> {
    let mut inflater = Decompress::new(zlib);
    loop {
        let read = inflater.total_in() as usize;
        let written = out.len();
        let rest = sent.get(read..).unwrap_or_default();
        let status =
            inflater.decompress_vec(rest, out, FlushDecompress::None).map_err(|_| BodyError::Corrupt)?;
        if out.len() > allowed {
            return Err(BodyError::TooLarge { limit: allowed });
        }
        if status == Status::StreamEnd {
            return Ok(());
        }
        let stuck = inflater.total_in() as usize == read && out.len() == written;
        if out.len() == out.capacity() {
            out.reserve(out.len().max(1024).min(allowed));
        } else if stuck {
            // There is room and nothing comes: the end is missing.
            return Err(BodyError::Corrupt);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http_body_util::Full;
    use hyper::body::Frame;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits { max_bytes: 1_000_000, timeout: Duration::from_secs(5) };

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..length).map(|_| random.u8(..)).collect()
    }

    /// A body of so many pieces of 1,000 bytes, which then ends or does not.
    struct Pieces {
        left: usize,
        then_hangs: bool,
    }

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            if self.left == 0 {
                return if self.then_hangs { Poll::Pending } else { Poll::Ready(None) };
            }
            self.left -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; 1_000])))))
        }
    }

    async fn read_whole(sent: Vec<u8>, encoding: &str, budget: &Budget) -> Result<Vec<u8>, BodyError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        let body = read(Full::new(Bytes::from(sent)), &headers, &LIMITS, budget).await?;
        Ok(body.bytes.to_vec())
    }

    #[tokio::test]
    async fn decodes_what_clients_send_and_gives_the_budget_back() {
        let budget = Budget::new(4_000_000);
        let mut long = br#"{"a":"#.repeat(100);
        long.extend(noise(100_000));
        for text in [b"{}".to_vec(), Vec::new(), long] {
            let two_members = [gzip(&text), gzip(&text)].concat();
            for (sent, encoding, expected) in [
                (text.clone(), "", text.clone()),
                (text.clone(), "identity", text.clone()),
                (gzip(&text), "gzip", text.clone()),
                (gzip(&text), "X-GZip", text.clone()),
                (two_members, "gzip", [text.clone(), text.clone()].concat()),
                (zlib(&text), "deflate", text.clone()),
                (bare(&text), "deflate", text.clone()),
            ] {
                assert_eq!(read_whole(sent, encoding, &budget).await, Ok(expected), "{encoding}");
            }
        }
        assert_eq!(budget.free.available_permits(), 4_000_000);
    }

    #[tokio::test]
    async fn refuses_what_it_cannot_decode() {
        let budget = Budget::new(4_000_000);
        let text = noise(10_000);
        let cut = |mut bytes: Vec<u8>, left: usize| {
            bytes.truncate(left);
            bytes
        };
        for (sent, encoding, error) in [
            (b"{}".to_vec(), "gzip", BodyError::Corrupt),
            (b"{}".to_vec(), "deflate", BodyError::Corrupt),
            (Vec::new(), "gzip", BodyError::Corrupt),
            (Vec::new(), "deflate", BodyError::Corrupt),
            (cut(gzip(&text), 5_000), "gzip", BodyError::Corrupt),
            (cut(gzip(&text), 5), "gzip", BodyError::Corrupt),
            (cut(zlib(&text), 5_000), "deflate", BodyError::Corrupt),
            (cut(bare(&text), 5_000), "deflate", BodyError::Corrupt),
            (text, "br", BodyError::Encoding),
            (gzip(b"{}"), "gzip, gzip", BodyError::Encoding),
        ] {
            let length = sent.len();
            assert_eq!(read_whole(sent, encoding, &budget).await, Err(error), "{encoding} {length}");
        }
        assert_eq!(budget.free.available_permits(), 4_000_000);
    }

    #[tokio::test]
    async fn refuses_what_is_or_becomes_too_large() {
        let budget = Budget::new(4_000_000);
        let spaces = vec![b' '; 20_000_000];
        for (sent, encoding, limit) in [
            (noise(1_000_001), "", 1_000_000),
            (gzip(&noise(1_000_001)), "gzip", 1_000_000),
            (gzip(&spaces), "gzip", 1_000_000),
            (zlib(&spaces), "deflate", 1_000_000),
            (gzip(&vec![b' '; 900_000]), "gzip", SMALL_BYTES),
            (bare(&vec![b' '; 900_000]), "deflate", SMALL_BYTES),
        ] {
            let length = sent.len();
            let read = read_whole(sent, encoding, &budget).await;
            assert_eq!(read, Err(BodyError::TooLarge { limit }), "{encoding} {length}");
        }
        assert_eq!(budget.free.available_permits(), 4_000_000);
    }

    #[tokio::test]
    async fn a_budget_that_is_used_up_refuses_at_once() {
        let budget = Budget::new(1_500);
        let first = read(Full::new(Bytes::from(vec![b'x'; 1_000])), &HeaderMap::new(), &LIMITS, &budget)
            .await
            .unwrap();
        assert_eq!(read_whole(vec![b'x'; 501], "", &budget).await, Err(BodyError::Busy));
        assert_eq!(read_whole(vec![b'x'; 500], "", &budget).await, Ok(vec![b'x'; 500]));
        drop(first);
        assert_eq!(budget.free.available_permits(), 1_500);
    }

    #[tokio::test]
    async fn what_is_made_of_a_body_counts_too() {
        let budget = Budget::new(1_500);
        let mut first =
            read(Full::new(Bytes::from(vec![b'x'; 500])), &HeaderMap::new(), &LIMITS, &budget).await.unwrap();
        first.hold(1_200).unwrap();
        assert_eq!(budget.free.available_permits(), 300);
        let mut second =
            read(Full::new(Bytes::from(vec![b'x'; 100])), &HeaderMap::new(), &LIMITS, &budget).await.unwrap();
        assert_eq!(second.hold(301), Err(BodyError::Busy));
        drop(second);
        first.hold(10).unwrap();
        assert_eq!(budget.free.available_permits(), 1_490);
        assert_eq!(first.hold(1_000_000), Ok(()), "by itself each request passes");
        drop(first);
        assert_eq!(budget.free.available_permits(), 1_500);
    }

    #[tokio::test]
    async fn pieces_are_put_together_and_bounded() {
        let budget = Budget::new(4_000_000);
        for (pieces, expected) in [(3, Some(3)), (100, Some(100)), (1_001, None)] {
            let body = Pieces { left: pieces, then_hangs: false };
            let read =
                read(body, &HeaderMap::new(), &LIMITS, &budget).await.map(|body| body.bytes.len() / 1_000);
            assert_eq!(read.ok(), expected);
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_slow() {
        let body = Pieces { left: 3, then_hangs: true };
        let limits = BodyLimits { timeout: Duration::from_millis(20), ..LIMITS };
        let read = read(body, &HeaderMap::new(), &limits, &Budget::new(10_000)).await;
        assert_eq!(read.err(), Some(BodyError::Slow));
    }
}
