//! Errors of components as gRPC statuses and back (upstream `pkg/components/pluggable/errors.go` and
//! `pkg/components/state/pluggable.go`).

use std::collections::HashMap;

use outrigger_component::{Answer, Error, ErrorKind};
use outrigger_state::etag_mismatch;
use outrigger_types::grpc_code_name;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt as _};

/// Field of the violation that makes a status an etag error.
const ETAG_FIELD: &str = "etag";
/// Keys of an error info: rows a bulk delete should have touched, and did.
const EXPECTED: &str = "expected";
const AFFECTED: &str = "affected";
/// Keys of an error info by which a component decides the API's answer.
const KIT_ERROR: &str = "kit_error";
const HTTP_CODE: &str = "http_code";
const TAG: &str = "tag";

/// A status with the text that Go's errors have.
fn text(status: &Status) -> String {
    format!(
        "rpc error: code = {} desc = {}",
        grpc_code_name(status.code().into()),
        status.message()
    )
}

/// The error of a call without further meaning. Its code is kept, so that resiliency policies can match it; trying
/// again is left to them, as upstream does.
pub(crate) fn error(status: &Status) -> Error {
    Error::new(ErrorKind::Status(status.code().into()), text(status))
}

/// The error of a read, which may decide the API's answer.
pub(crate) fn read_error(status: &Status) -> Error {
    answer(status).unwrap_or_else(|| error(status))
}

/// The error of a write: etags and bulk deletes have their own.
pub(crate) fn write_error(status: &Status) -> Error {
    answer(status)
        .or_else(|| etag(status).map(|(kind, description)| etag_error(kind, description)))
        .or_else(|| row_mismatch(status))
        .unwrap_or_else(|| error(status))
}

/// The error of a transaction: as of a write, in the words upstream leaves unconverted there.
pub(crate) fn transaction_error(status: &Status) -> Error {
    answer(status)
        .or_else(|| etag(status).map(|(kind, _)| Error::new(kind, text(status))))
        .unwrap_or_else(|| error(status))
}

/// The error of a secret store.
pub(crate) fn secret_error(status: &Status) -> Error {
    match status.code() {
        Code::NotFound => Error::new(ErrorKind::NotFound, text(status)),
        _ => error(status),
    }
}

fn only_detail(status: &Status) -> Option<ErrorDetail> {
    let mut details = status.get_error_details_vec();
    (details.len() == 1).then(|| details.remove(0))
}

fn answer(status: &Status) -> Option<Error> {
    let ErrorDetail::ErrorInfo(info) = only_detail(status)? else {
        return None;
    };
    if info.metadata.get(KIT_ERROR).map(String::as_str) != Some("true") {
        return None;
    }
    let answer = Answer {
        grpc: status.code().into(),
        http: info.metadata.get(HTTP_CODE)?.parse().ok()?,
        code: info.metadata.get(TAG).cloned().unwrap_or_default(),
        message: status.message().to_owned(),
        reason: info.reason,
        domain: info.domain,
    };
    let text = format!(
        "api error: code = {} desc = {}",
        grpc_code_name(answer.grpc),
        answer.message
    );
    Some(Error::new(ErrorKind::Status(answer.grpc), text).with_answer(answer))
}

fn etag(status: &Status) -> Option<(ErrorKind, String)> {
    let kind = match status.code() {
        Code::FailedPrecondition => ErrorKind::EtagMismatch,
        Code::InvalidArgument => ErrorKind::EtagInvalid,
        _ => return None,
    };
    let ErrorDetail::BadRequest(mut request) = only_detail(status)? else {
        return None;
    };
    let violation = request.field_violations.pop()?;
    (request.field_violations.is_empty() && violation.field == ETAG_FIELD)
        .then_some((kind, violation.description))
}

/// With the texts of components-contrib `state/errors.go`.
fn etag_error(kind: ErrorKind, description: String) -> Error {
    let error = match kind {
        ErrorKind::EtagMismatch => etag_mismatch(),
        _ => Error::new(kind, "invalid etag value"),
    };
    if description.is_empty() {
        error
    } else {
        error.with_source(description)
    }
}

fn row_mismatch(status: &Status) -> Option<Error> {
    if status.code() != Code::Internal {
        return None;
    }
    let ErrorDetail::ErrorInfo(info) = only_detail(status)? else {
        return None;
    };
    let expected = info.metadata.get(EXPECTED)?;
    let affected = info.metadata.get(AFFECTED)?;
    Some(Error::internal(format!(
        "delete affected only {affected} rows, expected {expected}"
    )))
}

/// The status by which a component of ours answers an error.
pub(crate) fn status(error: &Error) -> Status {
    if let Some(answer) = error.answer() {
        let metadata = HashMap::from([
            (KIT_ERROR.to_owned(), "true".to_owned()),
            (HTTP_CODE.to_owned(), answer.http.to_string()),
            (TAG.to_owned(), answer.code.clone()),
        ]);
        let info = tonic_types::ErrorInfo::new(&answer.reason, &answer.domain, metadata);
        return Status::with_error_details_vec(
            Code::from_i32(answer.grpc),
            answer.message.clone(),
            vec![info.into()],
        );
    }
    let text = error.chain();
    let code = match error.kind() {
        ErrorKind::EtagMismatch => return etag_status(Code::FailedPrecondition, error),
        ErrorKind::EtagInvalid => return etag_status(Code::InvalidArgument, error),
        ErrorKind::Configuration | ErrorKind::InvalidRequest => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::Unavailable | ErrorKind::Closed => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Status(code @ 1..=16) => Code::from_i32(code),
        _ => Code::Internal,
    };
    Status::new(code, text)
}

/// The other side puts its own words before the description, which therefore holds only the causes.
fn etag_status(code: Code, error: &Error) -> Status {
    let text = error.chain();
    let causes = text
        .strip_prefix(error.message())
        .map_or("", |rest| rest.trim_start_matches(": "));
    let violation = tonic_types::BadRequest::with_violation(ETAG_FIELD, causes);
    Status::with_error_details_vec(code, text.clone(), vec![violation.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etag_errors_survive_the_wire() {
        for (sent, kind) in [
            (etag_mismatch().with_source("7 is not 8"), ErrorKind::EtagMismatch),
            (etag_mismatch(), ErrorKind::EtagMismatch),
            (
                Error::new(ErrorKind::EtagInvalid, "invalid etag value").with_source("no number"),
                ErrorKind::EtagInvalid,
            ),
        ] {
            let got = write_error(&status(&sent));
            assert_eq!((got.kind(), got.chain()), (kind, sent.chain()));
            assert_eq!(transaction_error(&status(&sent)).kind(), kind);
        }
    }

    #[test]
    fn an_answer_of_the_component_survives_the_wire() {
        let answer = Answer {
            grpc: 15,
            http: 506,
            code: "tag".into(),
            message: "gone".into(),
            reason: "R".into(),
            domain: "d".into(),
        };
        let got = read_error(&status(&Error::internal("x").with_answer(answer.clone())));
        assert_eq!(got.answer(), Some(&answer));
        assert_eq!(got.chain(), "api error: code = DataLoss desc = gone");
    }

    #[test]
    fn other_details_are_no_etag_errors() {
        let plain = Status::failed_precondition("no");
        let other = Status::with_error_details_vec(
            Code::FailedPrecondition,
            "no",
            vec![tonic_types::BadRequest::with_violation("key", "no").into()],
        );
        for status in [plain, other] {
            let got = write_error(&status);
            assert_eq!(got.kind(), ErrorKind::Status(9));
            assert_eq!(got.chain(), "rpc error: code = FailedPrecondition desc = no");
        }
    }

    #[test]
    fn a_bulk_delete_names_its_rows() {
        let metadata = HashMap::from([
            (EXPECTED.to_owned(), "3".to_owned()),
            (AFFECTED.to_owned(), "1".to_owned()),
        ]);
        let status = Status::with_error_details_vec(
            Code::Internal,
            "no",
            vec![tonic_types::ErrorInfo::new("", "", metadata).into()],
        );
        assert_eq!(
            write_error(&status).chain(),
            "delete affected only 1 rows, expected 3"
        );
    }
}
