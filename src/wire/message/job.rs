//! Work that may wait.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Ask as _, Message, stt};
use crate::wire::subject::{self, Target};

/// Something to be done when a host has nothing better to do, in the work queue JOBS. Only `request` is needed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// What people call it, such as the file that it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When it was put there, in RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// The request, as the verb takes it; as JSON.
    #[serde(default)]
    pub request: Value,
    /// The name of an audio file in the object store JOB_FILES that the request is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Message for Job {
    const SCHEMA: &'static str = "job.job/1";

    fn example() -> Self {
        Self {
            name: "talk.flac".to_owned(),
            at: "2026-11-24T10:20:00Z".to_owned(),
            request: json!({ "language": "en" }),
            file: Some("01KB3Z7D5YAZ9W1N4CV2T8Q6RE".to_owned()),
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Nobody has begun, or somebody has given it back.
    #[default]
    Waiting,
    /// A host works on it.
    Running,
    /// Its result is there.
    Done,
    /// It can't be done; the error is there.
    Failed,
    /// Nobody wants it any more.
    Cancelled,
}

impl JobStatus {
    /// Whether nothing more will happen by itself.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A job as it stands in the bucket JOB_STATES.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobState {
    /// Its id.
    pub id: String,
    /// Where it waits, or waited, in JOBS.
    pub subject: String,
    /// What is to be done. Without its request when it is done.
    pub job: Job,
    /// How far it is.
    pub status: JobStatus,
    /// How often it was begun, but for the times when it made room for somebody.
    #[serde(default)]
    pub attempts: u32,
    /// When it last changed, in RFC 3339.
    pub changed: String,
    /// The host that works on it, or did at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the verb answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The name of the result in the object store JOB_FILES, when it is too large for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_file: Option<String>,
}

impl Message for JobState {
    const SCHEMA: &'static str = "job.state/1";

    fn example() -> Self {
        Self {
            id: "01KB3Z7D5YAZ9W1N4CV2T8Q6RE".to_owned(),
            subject: subject::job(&stt::Request::VERB, Target::Any, "01KB3Z7D5YAZ9W1N4CV2T8Q6RE"),
            job: Job { request: Value::Null, ..Job::example() },
            status: JobStatus::Done,
            attempts: 1,
            changed: "2026-11-24T10:21:30Z".to_owned(),
            node: Some("studio".to_owned()),
            error: None,
            result: Some(json!({ "text": "What time is it?", "segments": [], "audio_ms": 1_240, "engine_ms": 262,
                "model": "whisper-tiny.en" })),
            result_file: None,
        }
    }
}
