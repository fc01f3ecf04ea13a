//! Getting a file by HTTP: what has arrived is kept and taken up where it broke off.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use tokio::fs::{self, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::error::ModelError;
use super::progress::Progress;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a server may send nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES: usize = 5;
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why one attempt failed.
enum AttemptError {
    /// Another may go on from where this one stopped.
    Transient(String),
    /// Another would fail alike.
    Permanent(ModelError),
}

/// Downloads files for one model.
pub(super) struct Downloader<'a> {
    client: reqwest::Client,
    model: &'a str,
    first_retry_delay: Duration,
}

impl<'a> Downloader<'a> {
    /// `model` is whose files are downloaded, for errors.
    pub(super) fn new(model: &'a str) -> Result<Self, ModelError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // That another thread was quicker is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client =
            reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(STALL_TIMEOUT).build().map_err(
                |error| ModelError::Network { source_name: "a web address".to_owned(), reason: chain(&error) },
            )?;
        Ok(Self { client, model, first_retry_delay: FIRST_RETRY_DELAY })
    }

    /// Downloads `url` to `target`, unless that is there. Meanwhile, and after a failure, what has arrived is in
    /// `target` with `.part` appended, from where another call goes on.
    pub(super) async fn get(&self, url: &str, target: &Path, progress: &dyn Progress) -> Result<(), ModelError> {
        if target.is_file() {
            return Ok(());
        }
        let part = part_of(target);
        let backoff = ExponentialBuilder::new().with_min_delay(self.first_retry_delay).with_max_times(RETRIES);
        (|| self.attempt(url, &part, progress))
            .retry(backoff)
            .when(|error| matches!(error, AttemptError::Transient(_)))
            .notify(|_, _| progress.stage("waiting to try again", None))
            .await
            .map_err(|error| match error {
                AttemptError::Transient(reason) => ModelError::Network { source_name: url.to_owned(), reason },
                AttemptError::Permanent(error) => error,
            })?;
        fs::rename(&part, target).await.map_err(ModelError::io("renaming", &part))
    }

    async fn attempt(&self, url: &str, part: &Path, progress: &dyn Progress) -> Result<(), AttemptError> {
        let here_bytes = fs::metadata(part).await.map_or(0, |metadata| metadata.len());
        let mut request = self.client.get(url);
        if here_bytes > 0 {
            request = request.header(RANGE, format!("bytes={here_bytes}-"));
        }
        let mut response = request.send().await.map_err(|error| AttemptError::Transient(chain(&error)))?;

        let mut done_bytes = match response.status() {
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(here_bytes) => here_bytes,
            StatusCode::OK => 0,
            status @ (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) => {
                // What is here does not fit what the server has now.
                fs::remove_file(part).await.map_err(|error| permanent("removing", part, error))?;
                return Err(AttemptError::Transient(format!(
                    "the server can't go on from byte {here_bytes} ({status})"
                )));
            }
            status if is_transient(status) => {
                return Err(AttemptError::Transient(format!("the server answers {status}")));
            }
            status => {
                return Err(AttemptError::Permanent(ModelError::Source {
                    name: self.model.to_owned(),
                    source_name: url.to_owned(),
                    reason: format!("the server answers {status}"),
                }));
            }
        };

        let expected_bytes = response.content_length().map(|rest| done_bytes + rest);
        progress.stage("downloading", expected_bytes);
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(done_bytes == 0)
            .append(done_bytes > 0)
            .open(part)
            .await
            .map_err(|error| permanent("opening", part, error))?;
        loop {
            let next = response.chunk().await;
            if let Ok(Some(bytes)) = &next {
                file.write_all(bytes).await.map_err(|error| permanent("writing", part, error))?;
                done_bytes += bytes.len() as u64;
                progress.at(done_bytes);
                continue;
            }
            // Also when the transfer broke off: what has arrived must be in the file for the next attempt.
            file.flush().await.map_err(|error| permanent("writing", part, error))?;
            return match next {
                Err(error) => Err(AttemptError::Transient(format!("{} after {done_bytes} bytes", chain(&error)))),
                Ok(_) => Ok(()),
            };
        }
    }
}

fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn permanent(what: &'static str, path: &Path, error: std::io::Error) -> AttemptError {
    AttemptError::Permanent(ModelError::io(what, path)(error))
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// Where the content of a partial response starts (RFC 9110, 14.4: `bytes 100-199/200`).
fn range_start(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

/// An error with what caused it: the outermost of reqwest's says little.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    /// Answers one connection after another with `answers` and reports the `Range` header of each request.
    async fn serve(answers: Vec<Vec<u8>>) -> (String, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/model", listener.local_addr().unwrap());
        let (ranges, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (read, mut write) = stream.split();
                let mut lines = BufReader::new(read).lines();
                let mut range = String::new();
                while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
                    if let Some((_, value)) =
                        line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("range"))
                    {
                        range = value.to_owned();
                    }
                }
                ranges.send(range).unwrap();
                write.write_all(&answer).await.unwrap();
            }
        });
        (url, asked)
    }

    fn answer(head: &str, length: usize, body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
    }

    async fn download(answers: Vec<Vec<u8>>, part: &[u8]) -> (Result<Vec<u8>, ModelError>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("model");
        if !part.is_empty() {
            std::fs::write(part_of(&target), part).unwrap();
        }
        let (url, mut asked) = serve(answers).await;
        let mut downloader = Downloader::new("tiny").unwrap();
        downloader.first_retry_delay = Duration::from_millis(1);
        let result = downloader.get(&url, &target, &()).await.map(|()| std::fs::read(&target).unwrap());
        let mut ranges = Vec::new();
        while let Ok(range) = asked.try_recv() {
            ranges.push(range);
        }
        (result, ranges)
    }

    #[tokio::test]
    async fn a_transfer_that_broke_off_is_taken_up_there() {
        let answers = vec![
            answer("200 OK", 10, b"0123"),
            answer("503 Service Unavailable", 0, b""),
            answer("206 Partial Content\r\nContent-Range: bytes 4-9/10", 6, b"456789"),
        ];
        let (result, ranges) = download(answers, b"").await;
        assert_eq!(result.unwrap(), b"0123456789");
        assert_eq!(ranges, ["", "bytes=4-", "bytes=4-"]);
    }

    #[tokio::test]
    async fn what_an_earlier_run_left_is_used() {
        let answers = vec![answer("206 Partial Content\r\nContent-Range: bytes 4-9/10", 6, b"456789")];
        let (result, ranges) = download(answers, b"0123").await;
        assert_eq!(result.unwrap(), b"0123456789");
        assert_eq!(ranges, ["bytes=4-"]);
    }

    #[tokio::test]
    async fn a_server_that_knows_no_ranges_starts_over() {
        let (result, _) = download(vec![answer("200 OK", 10, b"0123456789")], b"xx").await;
        assert_eq!(result.unwrap(), b"0123456789");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_thrown_away() {
        let refused = answer("416 Range Not Satisfiable", 0, b"");
        let (result, ranges) = download(vec![refused, answer("200 OK", 3, b"012")], b"0123456789").await;
        assert_eq!(result.unwrap(), b"012");
        assert_eq!(ranges, ["bytes=10-", ""]);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_at_once() {
        let (result, ranges) = download(vec![answer("404 Not Found", 0, b"")], b"").await;
        let message = result.unwrap_err().to_string();
        assert!(message.contains("404") && message.contains("entry of model 'tiny'"), "{message}");
        assert_eq!(ranges.len(), 1);
    }

    #[tokio::test]
    async fn a_server_that_never_recovers_is_given_up() {
        let answers = vec![answer("500 Internal Server Error", 0, b""); RETRIES + 1];
        let (result, ranges) = download(answers, b"").await;
        assert!(matches!(result.unwrap_err(), ModelError::Network { .. }));
        assert_eq!(ranges.len(), RETRIES + 1);
    }
}
