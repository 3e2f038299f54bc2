//! Which web origins may read answers (CORS, as in the Fetch standard).
//!
//! Without origins configured nothing is said about them, and a browser keeps answers from every
//! page of another origin. Credentials of the browser (cookies) are never asked for: a caller
//! says who they are in `Authorization`.

/// The most origins that may be configured.
pub const ORIGINS_MAX: usize = 64;

/// The longest origin, in bytes.
pub const ORIGIN_BYTES_MAX: usize = 255;

/// Why a text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// Not of the form `scheme://host` or `scheme://host:port`, or too long.
    #[error("`{0}` is not an origin: write it as https://example.org, or * for every origin")]
    NotAnOrigin(String),
    /// More than [`ORIGINS_MAX`].
    #[error("there are {0} origins, and at most {ORIGINS_MAX} are possible")]
    TooMany(usize),
}

/// The origins that may read answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    any: bool,
    origins: Vec<Box<str>>,
}

/// How one answer is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// With nobody.
    Private,
    /// With every origin.
    Any,
    /// With the configured origin of this index.
    Listed(u8),
}

const _: () = assert!(ORIGINS_MAX <= u8::MAX as usize);

impl Cors {
    /// Takes origins as a browser writes them, such as `https://example.org:8443`; `*` stands for
    /// all of them. None is no sharing.
    pub fn new<S: AsRef<str>>(origins: &[S]) -> Result<Self, CorsError> {
        if origins.len() > ORIGINS_MAX {
            return Err(CorsError::TooMany(origins.len()));
        }
        let mut cors = Self::default();
        for origin in origins.iter().map(AsRef::as_ref) {
            if origin == "*" {
                cors.any = true;
            } else if is_origin(origin) {
                cors.origins.push(origin.into());
            } else {
                return Err(CorsError::NotAnOrigin(origin.to_owned()));
            }
        }
        Ok(cors)
    }

    /// How an answer to a request of this origin is shared.
    #[must_use]
    pub fn sharing(&self, origin: Option<&[u8]>) -> Sharing {
        if self.any {
            // Also where nobody asks: a cache may hand the answer to somebody who does.
            return Sharing::Any;
        }
        let Some(origin) = origin else { return Sharing::Private };
        let index = self.origins.iter().position(|known| known.as_bytes() == origin);
        index.map_or(Sharing::Private, |index| Sharing::Listed(index as u8))
    }

    /// The value of `Access-Control-Allow-Origin`, where there is one.
    #[must_use]
    pub fn allowed_origin(&self, sharing: Sharing) -> Option<&str> {
        match sharing {
            Sharing::Private => None,
            Sharing::Any => Some("*"),
            Sharing::Listed(index) => self.origins.get(usize::from(index)).map(AsRef::as_ref),
        }
    }

    /// Whether answers differ by origin, so that a cache has to tell them apart.
    #[must_use]
    pub fn varies(&self) -> bool {
        !self.any && !self.origins.is_empty()
    }
}

/// The serialised form: scheme and authority in lower case, no path, not even `/`.
fn is_origin(text: &str) -> bool {
    let is_host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let Some((scheme, host)) = text.split_once("://") else { return false };
    text.len() <= ORIGIN_BYTES_MAX
        && !scheme.is_empty()
        && scheme.bytes().all(|byte| is_host(byte) || b"+-.".contains(&byte))
        && host.bytes().any(is_host)
        && host.bytes().all(|byte| is_host(byte) || b"-._:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_listed_or_all() {
        let cors = Cors::new(&["https://a.example", "http://localhost:3000"]).expect("origins");
        assert!(cors.varies());
        assert_eq!(cors.sharing(None), Sharing::Private);
        assert_eq!(cors.sharing(Some(b"https://b.example")), Sharing::Private);
        let second = cors.sharing(Some(b"http://localhost:3000"));
        assert_eq!(second, Sharing::Listed(1));
        assert_eq!(cors.allowed_origin(second), Some("http://localhost:3000"));
        let any = Cors::new(&["*"]).expect("all");
        assert!(!any.varies());
        assert_eq!(any.allowed_origin(any.sharing(Some(b"null"))), Some("*"));
        assert_eq!(
            any.sharing(None),
            Sharing::Any,
            "answers do not differ, so a cache may keep one"
        );
        assert_eq!(Cors::default().sharing(Some(b"https://a.example")), Sharing::Private);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        let wrong = [
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "HTTPS://A.EXAMPLE",
            "https://a.example\r\nx: y",
            "https://u@a.example",
        ];
        for text in wrong {
            assert_eq!(Cors::new(&[text]), Err(CorsError::NotAnOrigin(text.to_owned())));
        }
        let many = ["https://a.example"; ORIGINS_MAX + 1];
        assert_eq!(Cors::new(&many), Err(CorsError::TooMany(ORIGINS_MAX + 1)));
    }
}
