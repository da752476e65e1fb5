//! A store in a bucket of S3-compatible object storage.
//!
//! # What is asked of the server
//!
//! Whole objects appear at once or not at all, a read after a write sees it, and a list is complete: all of
//! these every S3-compatible server gives. Create-if-absent (`If-None-Match: *`) is used where the server keeps
//! it and never needed: some take the header and overwrite all the same. So the server is asked once, at the
//! first write, by writing one small object twice. Where it does not keep it, the object's size is asked first,
//! and of two pushers that race one overwrites the other's object with the same bytes, because the key of an
//! immutable object says what is in it.
//!
//! Objects have no modes here: a bucket is as private as its policy, env layers included.

mod explain;
mod profile;
mod settings;
#[cfg(test)]
pub(super) mod tests;
mod upload;
mod wire;

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, RetryConfig,
};

use self::explain::{Place, explain, is_missing_bucket, is_past_the_end, is_wordless_refusal};
use self::settings::Credentials;
pub(crate) use self::settings::Settings;
use self::upload::S3Upload;
use self::wire::{Connector, Heard};
use super::runtime::Runtime;
use super::{Access, Backend, BackendError, Cost, Key, Listed, Upload};
use crate::limits::FILE_BYTES_MAX;

/// Objects one list may have: far more than a store of 10,000 versions, and 1 GiB of memory at most.
const LISTED_MAX: usize = 8_000_000;
/// Whether the server keeps conditional writes is asked with this object.
const PROBE: &str = "landfall-probe";
const PROBE_BYTES: &[u8] = b"With this object landfall asks whether this server keeps conditional writes.\n";
/// Where nothing names a region; servers other than Amazon's take any.
const REGION: &str = "us-east-1";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const IMMUTABLE_PRIVATE: &str = "private, max-age=31536000, immutable";
const MUTABLE: &str = "no-cache";

/// Objects of a bucket, below a prefix.
pub struct S3Backend {
    store: AmazonS3,
    bucket: String,
    prefix: String,
    endpoint: String,
    runtime: &'static Runtime,
    heard: Arc<Heard>,
    /// Whether the server keeps conditional writes, once it was asked.
    conditional: Mutex<Option<bool>>,
}

impl S3Backend {
    /// The objects of `bucket` whose keys begin with `prefix`, asked as the environment says. Asks the server
    /// nothing yet.
    pub fn open(bucket: &str, prefix: &str) -> Result<Self, BackendError> {
        let settings = Settings::of_process().map_err(|error| set_up(bucket, prefix, error.to_string()))?;
        Self::with(bucket, prefix, settings)
    }

    /// The same, asked as `settings` say.
    pub(crate) fn with(bucket: &str, prefix: &str, settings: Settings) -> Result<Self, BackendError> {
        let failed = |why: String| set_up(bucket, prefix, why);
        let tame = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(tame) {
            return Err(failed("a bucket's name has letters, digits, `.` and `-` only".to_owned()));
        }
        if !prefix.is_empty() {
            Path::parse(prefix).map_err(|error| failed(error.to_string()))?;
        }
        let heard = Arc::<Heard>::default();
        let region = settings.region.unwrap_or_else(|| REGION.to_owned());
        let builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&region)
            .with_retry(retry())
            .with_disable_bulk_delete(true)
            .with_http_connector(Connector { heard: Arc::clone(&heard), authorities: settings.authorities });
        let builder = identify(builder, settings.credentials);
        let (builder, endpoint) = match settings.endpoint {
            // A bucket with a dot in its name has no certificate as a host.
            None => {
                let as_host = settings.virtual_host.unwrap_or(true) && !bucket.contains('.');
                let builder = builder.with_virtual_hosted_style_request(as_host);
                (builder, format!("s3.{region}.amazonaws.com"))
            }
            Some(endpoint) => {
                let as_host = settings.virtual_host.unwrap_or(false);
                let address = if as_host {
                    endpoint.replacen("://", &format!("://{bucket}."), 1)
                } else {
                    endpoint.clone()
                };
                (builder.with_virtual_hosted_style_request(as_host).with_endpoint(address), endpoint)
            }
        };
        let store = builder.build().map_err(|error| failed(error.to_string()))?;
        let runtime = Runtime::shared().map_err(|error| failed(error.to_string()))?;
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Ok(Self { store, bucket, prefix, endpoint, runtime, heard, conditional: Mutex::default() })
    }

    fn path(&self, key: &Key) -> Result<Path, BackendError> {
        let text = if self.prefix.is_empty() { key.to_string() } else { format!("{}/{key}", self.prefix) };
        Path::parse(text).map_err(|error| set_up(&self.bucket, &self.prefix, error.to_string()))
    }

    fn fail(&self, action: &'static str, key: &Key, error: object_store::Error) -> BackendError {
        let at = self.location();
        let place = Place { at, bucket: &self.bucket, endpoint: &self.endpoint, heard: &self.heard };
        explain(&place, action, key, error)
    }

    fn put(
        &self,
        path: &Path,
        bytes: impl Into<PutPayload>,
        mode: PutMode,
        attributes: Attributes,
    ) -> object_store::Result<()> {
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        self.runtime.run(self.store.put_opts(path, bytes.into(), options)).map(drop)
    }

    /// Whether create-if-absent means something to this server.
    fn keeps_conditions(&self) -> Result<bool, BackendError> {
        let mut known = self.conditional.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some(kept) => Ok(kept),
            None => Ok(*known.insert(self.probe()?)),
        }
    }

    fn probe(&self) -> Result<bool, BackendError> {
        let key = Key::new(PROBE).map_err(|error| set_up(&self.bucket, &self.prefix, error.to_string()))?;
        let path = self.path(&key)?;
        let put = |mode| self.put(&path, PROBE_BYTES, mode, attributes(MUTABLE));
        for _ in 0..2 {
            match put(PutMode::Create) {
                Err(object_store::Error::AlreadyExists { .. }) => return Ok(true),
                Ok(()) => {}
                // A server that refuses the header may take the object without it; if not, it says why.
                Err(_) => {
                    put(PutMode::Overwrite).map_err(|error| self.fail("write", &key, error))?;
                    return Ok(false);
                }
            }
        }
        tracing::debug!(store = self.location(), "the server ignores conditional writes");
        Ok(false)
    }
}

fn set_up(bucket: &str, prefix: &str, why: String) -> BackendError {
    BackendError::Setup { at: location(bucket, prefix), why }
}

fn location(bucket: &str, prefix: &str) -> String {
    format!("s3://{bucket}/{prefix}")
}

/// Four more tries, within a minute at most: whoever uses the store has schedules of its own for longer outages.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(10),
        base: 3.0,
    };
    RetryConfig { backoff, max_retries: 4, retry_timeout: Duration::from_secs(60) }
}

fn identify(builder: AmazonS3Builder, credentials: Credentials) -> AmazonS3Builder {
    use object_store::aws::AmazonS3ConfigKey as Setting;
    let also = |builder: AmazonS3Builder, setting, value: Option<String>| match value {
        Some(value) => builder.with_config(setting, value),
        None => builder,
    };
    match credentials {
        Credentials::Keys { id, secret, token } => {
            also(builder.with_access_key_id(id).with_secret_access_key(secret), Setting::Token, token)
        }
        Credentials::WebIdentity { token_file, role, session, sts } => {
            let builder = builder
                .with_config(Setting::WebIdentityTokenFile, token_file)
                .with_config(Setting::RoleArn, role);
            also(also(builder, Setting::RoleSessionName, session), Setting::StsEndpoint, sts)
        }
        Credentials::ContainerPath(path) => {
            builder.with_config(Setting::ContainerCredentialsRelativeUri, path)
        }
        Credentials::ContainerAddress { address, token_file } => builder
            .with_config(Setting::ContainerCredentialsFullUri, address)
            .with_config(Setting::ContainerAuthorizationTokenFile, token_file),
        Credentials::Instance { service } => also(builder, Setting::MetadataEndpoint, service),
    }
}

fn attributes(cache: &'static str) -> Attributes {
    let kind = (Attribute::ContentType, "application/octet-stream");
    [(Attribute::CacheControl, cache), kind].into_iter().collect()
}

fn immutable(access: Access) -> Attributes {
    attributes(match access {
        Access::Public => IMMUTABLE,
        Access::Private => IMMUTABLE_PRIVATE,
    })
}

/// The range of a request; none for all of an object. Servers reject ends that no object can have.
fn range(offset: u64, length: u64) -> Option<GetRange> {
    match offset.checked_add(length).filter(|end| *end <= FILE_BYTES_MAX) {
        Some(end) => Some(GetRange::Bounded(offset..end)),
        None if offset == 0 => None,
        None => Some(GetRange::Offset(offset)),
    }
}

impl Backend for S3Backend {
    fn location(&self) -> String {
        location(&self.bucket, &self.prefix)
    }

    fn cost(&self) -> Cost {
        Cost::NETWORK
    }

    /// The server's `Date`.
    fn now(&self) -> Result<SystemTime, BackendError> {
        let key = crate::layout::record();
        match self.runtime.run(self.store.head(&self.path(&key)?)) {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.fail("ask the time of", &key, error)),
        }
        self.heard.date().ok_or_else(|| {
            let silent = io::Error::other("the server's answers have no Date");
            BackendError::io("ask the time of", &key, self.location(), silent)
        })
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError> {
        let path = self.path(key)?;
        match self.runtime.run(self.store.head(&path)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            // The answer to HEAD has no words; that to GET says why.
            Err(error) if is_wordless_refusal(&error) => {
                let first = GetOptions { range: range(0, 1), ..GetOptions::default() };
                let error = self.runtime.run(self.store.get_opts(&path, first)).err().unwrap_or(error);
                Err(self.fail("look at", key, error))
            }
            Err(error) => Err(self.fail("look at", key, error)),
        }
    }

    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let path = self.path(key)?;
        if length == 0 {
            return Ok(Box::new(io::empty()));
        }
        let options = GetOptions { range: range(offset, length), ..GetOptions::default() };
        match self.runtime.run(self.store.get_opts(&path, options)) {
            Ok(found) => Ok(Box::new(self.runtime.reader(found.into_stream().map_err(io::Error::other)))),
            Err(error) if is_past_the_end(&error) => Ok(Box::new(io::empty())),
            Err(error) if is_missing_bucket(&error) => Err(self.fail("read", key, error)),
            Err(object_store::Error::NotFound { .. }) => {
                Err(BackendError::NotFound { key: key.clone(), at: self.location() })
            }
            Err(error) => Err(self.fail("read", key, error)),
        }
    }

    fn begin(&self, _under: Option<&Key>, access: Access) -> Result<Box<dyn Upload + '_>, BackendError> {
        Ok(Box::new(S3Upload::new(self, access)))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        self.put(&self.path(key)?, bytes, PutMode::Overwrite, attributes(MUTABLE))
            .map_err(|error| self.fail("write", key, error))
    }

    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        let path = self.path(under)?;
        let cut = self.prefix.len() + usize::from(!self.prefix.is_empty());
        let mut pages = self.store.list(Some(&path));
        let mut found = Vec::new();
        while let Some(item) = self.runtime.run(pages.next()) {
            let item = item.map_err(|error| self.fail("list", under, error))?;
            // What has no key is none of the store's.
            let Some(Ok(key)) = item.location.as_ref().get(cut..).map(Key::new) else { continue };
            if found.len() == LISTED_MAX {
                let many = io::Error::other(format!("there are more than {LISTED_MAX} objects"));
                return Err(BackendError::io("list", under, self.location(), many));
            }
            found.push(Listed { key, size: item.size, modified: item.last_modified.into() });
        }
        found.sort();
        Ok(found)
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        match self.runtime.run(self.store.delete(&self.path(key)?)) {
            Ok(()) => Ok(()),
            Err(error) if is_missing_bucket(&error) => Err(self.fail("delete", key, error)),
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fail("delete", key, error)),
        }
    }
}
