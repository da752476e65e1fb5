//! A real S3 server inside the test's process: s3s with its file system backend, which checks signatures and
//! keeps conditional writes. It ends with the value that started it.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

pub const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub const NAME: &str = "artifacts";

/// A server with one empty bucket, [`NAME`].
pub struct Bucket {
    address: SocketAddr,
    dir: tempfile::TempDir,
    puts: Arc<AtomicUsize>,
    _runtime: Background,
}

/// A runtime that ends without waiting for connections that clients keep open.
struct Background(Option<tokio::runtime::Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bucket {
    /// A server that keeps conditional writes.
    pub fn start() -> Self {
        Self::serve(true)
    }

    /// A server that takes `If-None-Match` and overwrites all the same, as some real ones do.
    pub fn start_forgetful() -> Self {
        Self::serve(false)
    }

    fn serve(keeps_conditions: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(NAME)).unwrap();
        let puts = Arc::<AtomicUsize>::default();
        let files = FileSystem::new(dir.path()).unwrap();
        let service = {
            let mut builder =
                S3ServiceBuilder::new(Server { files, keeps_conditions, puts: Arc::clone(&puts) });
            builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
            builder.build()
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // A client that goes away is none of the server's concern.
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, dir, puts, _runtime: Background(Some(runtime)) }
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a process is told by its environment, with the right secret.
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &self.endpoint()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Where the bucket's objects are files.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join(NAME)
    }

    /// Objects written so far, each by whatever way.
    pub fn puts(&self) -> usize {
        self.puts.load(Ordering::Relaxed)
    }
}

/// The operations landfall uses.
struct Server {
    files: FileSystem,
    keeps_conditions: bool,
    puts: Arc<AtomicUsize>,
}

impl Server {
    /// Amazon's server and most others tell a missing bucket from a missing object; s3s-fs does so in lists only.
    fn require(&self, bucket: &str) -> S3Result<()> {
        if bucket == NAME { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }
}

type Answer<'f, Output> = Pin<Box<dyn Future<Output = S3Result<S3Response<Output>>> + Send + 'f>>;

macro_rules! as_they_are {
    ($($operation:ident($input:ident) -> $output:ident;)*) => {
        $(fn $operation<'s, 'f>(&'s self, request: S3Request<$input>) -> Answer<'f, $output>
        where
            's: 'f,
            Self: 'f,
        {
            self.files.$operation(request)
        })*
    };
}

#[async_trait::async_trait]
impl S3 for Server {
    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.require(&request.input.bucket)?;
        if !self.keeps_conditions {
            request.input.if_none_match = None;
        }
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.files.put_object(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.files.complete_multipart_upload(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.require(&request.input.bucket)?;
        self.files.get_object(request).await
    }

    as_they_are! {
        head_object(HeadObjectInput) -> HeadObjectOutput;
        list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
        delete_object(DeleteObjectInput) -> DeleteObjectOutput;
        create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
        upload_part(UploadPartInput) -> UploadPartOutput;
        abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    }
}
