//! What a child writes: to the log, and the last lines kept for errors.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many lines are kept. Older ones are dropped.
const TAIL_LINES: usize = 8;
/// Longer lines are cut into pieces of this many bytes.
const LINE_BYTES: u64 = 2048;
/// How long to wait for the last lines of a child that ended: a grandchild may hold the pipe open.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// Readers of a child's output.
#[derive(Debug, Default)]
pub(super) struct Output {
    tail: Arc<Mutex<VecDeque<String>>>,
    readers: JoinSet<()>,
}

impl Output {
    /// Reads `stream` to its end, logging each line under `name`, or giving it to `lines`.
    pub(super) fn read(
        &mut self,
        name: &str,
        stream: impl AsyncRead + Unpin + Send + 'static,
        lines: Option<mpsc::Sender<String>>,
    ) {
        let (name, tail) = (name.to_owned(), Arc::clone(&self.tail));
        self.readers.spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = (&mut stream).take(LINE_BYTES).read_until(b'\n', &mut line).await {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if text.is_empty() {
                    continue;
                }
                if let Some(lines) = &lines {
                    // Their reader is slow or gone; the child must not wait.
                    let _ = lines.try_send(text);
                    continue;
                }
                tracing::debug!(target: "child", name, "{text}");
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(text);
            }
        });
    }

    /// The last lines so far, oldest first.
    pub(super) fn tail(&self) -> Vec<String> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The last lines of a child that has ended.
    pub(super) async fn final_tail(&mut self) -> Vec<String> {
        let drained = async { while self.readers.join_next().await.is_some() {} };
        // Late lines are only missing from an error message, so passing the deadline is no error.
        let _ = timeout(FLUSH_TIMEOUT, drained).await;
        self.tail()
    }
}
