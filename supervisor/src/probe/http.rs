//! HTTP/1.1 as a probe speaks it: one request without a body, of whose answer the status is read and no more. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use orangery_runtime::Error as RuntimeError;
use serde::{Deserialize, Serialize};

use super::spec::{Probe, Question};

/// Of an answer no more than this is read.
pub(crate) const MOST: usize = 16 << 10;
const HEADERS: usize = 64;

/// A GET over HTTP/1.1, inside the container's network: [`Probe::http`] with more to say. It succeeds with a status from
/// 200 to 399, as with Kubernetes. No redirect is followed, TLS is not spoken, and of the answer nothing but its status is
/// read.
///
/// ```
/// use orangery::{Http, Readiness};
/// let ready = Readiness::from(Http::get(8080, "/healthz").header("Host", "shop.example").status(200..=299));
/// # let _ = ready;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Http {
    pub(crate) address: SocketAddr,
    path: String,
    headers: Vec<(String, String)>,
    least: u16,
    most: u16,
}

impl Http {
    /// Of the server on this port of the container's own 127.0.0.1.
    pub fn get(port: u16, path: impl Into<String>) -> Self {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        Self { address, path: path.into(), headers: Vec::new(), least: 200, most: 399 }
    }

    /// Another address, as seen from the container's network.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address.set_ip(address.into());
        self
    }

    /// One more header; a `Host`, `User-Agent`, `Accept` or `Connection` in the place of ours.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Which answers are a success.
    pub fn status(mut self, range: RangeInclusive<u16>) -> Self {
        (self.least, self.most) = range.into_inner();
        self
    }

    pub(super) fn check(&self, field: &str) -> Option<RuntimeError> {
        let visible = |text: &str| text.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        let token = |name: &str| !name.is_empty() && visible(name) && !name.contains(['"', '(', ')', ',', '/', ':']);
        let why = if !self.path.starts_with('/') || !visible(&self.path) {
            "a path begins with / and has neither blanks nor letters that are not ASCII: write them as %20"
        } else if !self.headers.iter().all(|(name, _)| token(name)) {
            "this is no name of a header"
        } else if self.headers.iter().any(|(_, value)| value.bytes().any(|byte| byte < b' ' || byte == 0x7f)) {
            "no value of a header holds a control character"
        } else if self.least > self.most || self.least < 200 || self.most > 599 {
            "answers are 200 to 599, and a range begins before it ends"
        } else {
            return None;
        };
        Some(RuntimeError::invalid(field, why))
    }

    /// What is sent.
    pub(crate) fn request(&self) -> Vec<u8> {
        let host = self.address.to_string();
        let ours = [("Host", host.as_str()), ("User-Agent", "orangery"), ("Accept", "*/*"), ("Connection", "close")];
        let given = |name: &str| self.headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name));
        let mut text = format!("GET {} HTTP/1.1\r\n", self.path);
        let theirs = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in ours.into_iter().filter(|(name, _)| !given(name)).chain(theirs) {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text.into_bytes()
    }

    /// Whether this status is a success.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn judge(&self, status: u16) -> Result<(), String> {
        let good = (self.least..=self.most).contains(&status);
        if good { Ok(()) } else { Err(format!("status {status}")) }
    }
}

impl From<Http> for Probe {
    fn from(http: Http) -> Self {
        Self(Question::Http(http))
    }
}

/// The status of an answer, as far as it has come; `None`: more must come. What is said on the way there (100 Continue, 103
/// Early Hints) is no answer.
///
/// # Errors
/// It is none of HTTP/1.
pub(crate) fn status(mut answer: &[u8]) -> Result<Option<u16>, String> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(answer) {
            Err(error) => return Err(format!("the answer is not HTTP: {error}")),
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete(length)) => match response.code {
                Some(100 | 102..=199) => answer = answer.get(length..).unwrap_or_default(),
                code => return Ok(code),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_request_is_what_was_asked_for() {
        let request = |http: Http| String::from_utf8(http.request()).unwrap();
        let plain = "GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:80\r\nUser-Agent: orangery\r\nAccept: */*\r\n\
                     Connection: close\r\n\r\n";
        assert_eq!(request(Http::get(80, "/a?b=c")), plain);
        let own = request(Http::get(80, "/").header("host", "h").header("X-Probe", "yes"));
        assert!(own.contains("\r\nhost: h\r\nX-Probe: yes\r\n\r\n") && !own.contains("127"), "{own}");
        assert!(request(Http::get(80, "/").address([0u16; 8])).contains("Host: [::]:80\r\n"));
    }

    #[test]
    fn what_would_be_another_request_is_refused() {
        let refused = |http: Http| http.check("f").is_some();
        assert!(!refused(Http::get(80, "/a%20b").header("A", "b c")));
        for http in [
            Http::get(80, ""),
            Http::get(80, "a"),
            Http::get(80, "/ HTTP/1.0"),
            Http::get(80, "/\r\nA: b"),
            Http::get(80, "/").header("A:", "b"),
            Http::get(80, "/").header("", "b"),
            Http::get(80, "/").header("A", "b\r\nC: d"),
            Http::get(80, "/").status(100..=200),
            Http::get(80, "/").status(RangeInclusive::new(300, 299)),
        ] {
            assert!(refused(http.clone()), "{http:?}");
        }
    }

    #[test]
    fn the_status_is_read_as_soon_as_the_head_is_there() {
        let whole = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\nA: b\r\n\r\nrest";
        let head = whole.len() - 4;
        for length in 0..head {
            assert_eq!(status(&whole[..length]), Ok(None), "{length}");
        }
        assert_eq!((status(&whole[..head]), status(whole)), (Ok(Some(204)), Ok(Some(204))));
        assert!(status(b"SSH-2.0-OpenSSH_9.6\r\n").is_err());
        assert_eq!(Http::get(80, "/").judge(302), Ok(()));
        assert_eq!(Http::get(80, "/").judge(404), Err("status 404".into()));
    }

    proptest! {
        /// Whatever comes, it is an answer, a part of one or none.
        #[test]
        fn nothing_panics(noise in prop::collection::vec(any::<u8>(), 0..200), begins in any::<bool>()) {
            let mut answer = if begins { b"HTTP/1.1 200 OK\r\n".to_vec() } else { Vec::new() };
            answer.extend(noise);
            let _ = status(&answer);
        }
    }
}
