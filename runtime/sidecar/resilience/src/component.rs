//! The judgement of component errors.

use outrigger_component::{Error, ErrorKind, Retry};
use outrigger_engine_resiliency::{Code, Verdict};

use crate::Retryable;

impl Retryable for Error {
    fn verdict(&self) -> Verdict {
        match (self.kind(), self.retry()) {
            (_, Retry::Permanent) => Verdict::Permanent,
            (ErrorKind::Status(code), Retry::Transient) => match u16::try_from(code) {
                Ok(status) if status >= 100 => Verdict::Code(Code::Http(status)),
                _ => Verdict::Code(Code::Grpc(code)),
            },
            (_, Retry::Transient) => Verdict::Transient,
        }
    }
}
