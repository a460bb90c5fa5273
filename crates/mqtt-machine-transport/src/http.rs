//! Owns the head of an HTTP answer: where it ends, and what stands in it. It must not know what it is an answer to.

use bytes::BytesMut;

/// The longest head that is taken, in bytes.
pub(crate) const HEAD_LIMIT: usize = 16 << 10;
/// The most headers that are taken.
const HEADERS: usize = 64;

/// Collects the head of an answer, however it comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: BytesMut,
    /// How far was looked for the end.
    looked: usize,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    TooLong,
    NotHttp,
}

/// A head that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether the version is HTTP/1.1.
    pub(crate) is_1_1: bool,
    pub(crate) status: u16,
    pub(crate) reason: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Takes bytes of `input` up to the end of the head, and none behind it.
    pub(crate) fn handle_input(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, HeadError> {
        let known = self.bytes.len();
        self.bytes.extend_from_slice(input.get(..HEAD_LIMIT.min(input.len())).unwrap_or_default());
        check_start(&self.bytes)?;
        let behind = self.bytes.get(self.looked..).unwrap_or_default();
        let Some(found) = behind.windows(4).position(|window| window == b"\r\n\r\n") else {
            if self.bytes.len() >= HEAD_LIMIT {
                return Err(HeadError::TooLong);
            }
            self.looked = self.bytes.len().saturating_sub(3);
            input.clear();
            return Ok(None);
        };
        let end = self.looked.saturating_add(found).saturating_add(4);
        if end > HEAD_LIMIT {
            return Err(HeadError::TooLong);
        }
        let _ = input.split_to(end.saturating_sub(known).min(input.len()));
        self.bytes.truncate(end);
        parse(&self.bytes).map(Some)
    }
}

/// Tells at the first bytes that this is no HTTP, rather than to wait for the end of a head that never comes.
fn check_start(bytes: &[u8]) -> Result<(), HeadError> {
    let expected = b"HTTP/1.";
    if bytes.iter().zip(expected).all(|(byte, expected)| byte == expected) {
        Ok(())
    } else {
        Err(HeadError::NotHttp)
    }
}

fn parse(bytes: &[u8]) -> Result<Answer, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLong),
        Ok(httparse::Status::Partial) | Err(_) => return Err(HeadError::NotHttp),
    }
    let (Some(version), Some(status)) = (response.version, response.code) else {
        return Err(HeadError::NotHttp);
    };
    let text = |header: &httparse::Header<'_>| {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        (header.name.to_owned(), value)
    };
    Ok(Answer {
        is_1_1: version == 1,
        status,
        reason: crate::layer::quoted(response.reason.unwrap_or_default()),
        headers: response.headers.iter().map(text).collect(),
    })
}

#[cfg(feature = "websocket")]
impl Answer {
    /// The values of a header, whose name is compared without case.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| value.as_str())
    }

    /// Whether a header's list of words holds this one, without case.
    pub(crate) fn has_word(&self, name: &str, word: &str) -> bool {
        self.values(name).flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nA: 1\r\na: 2\r\n\r\n";

    #[test]
    fn a_head_ends_where_it_ends_however_it_comes() {
        for size in [1, 2, 3, 5, 1000] {
            let (mut head, mut found) = (Head::default(), None);
            let mut left = BytesMut::new();
            let whole = [ANSWER, b"rest"].concat();
            for piece in whole.chunks(size) {
                left.extend_from_slice(piece);
                if found.is_none() {
                    found = head.handle_input(&mut left).unwrap();
                }
            }
            assert_eq!(left, &b"rest"[..], "{size}");
            let answer = found.unwrap();
            assert_eq!((answer.status, answer.is_1_1, answer.reason.as_str()), (101, true, "Switching"));
            assert_eq!(answer.headers.len(), 3);
        }
    }

    #[test]
    fn what_is_no_head_is_refused_early_and_a_long_one_at_its_limit() {
        let error = |bytes: &[u8]| Head::default().handle_input(&mut BytesMut::from(bytes)).unwrap_err();
        assert_eq!(error(b"\x15"), HeadError::NotHttp);
        assert_eq!(error(b"HTTP/2"), HeadError::NotHttp);
        assert_eq!(error(b"HTTP/1.1 abc\r\n\r\n"), HeadError::NotHttp);
        let long = [&b"HTTP/1.1 200 OK\r\nA: "[..], &vec![b'x'; HEAD_LIMIT]].concat();
        assert_eq!(error(&long), HeadError::TooLong);
        let many = [&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n".repeat(65), b"\r\n"].concat();
        assert_eq!(error(&many), HeadError::TooLong);
    }
}
