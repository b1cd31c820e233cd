//! What went wrong in the models, as `pipe` says it.

use pipe_engine::problem::Failure;
use pipe_engine::stage::RowFailure;
use pipe_models::Error;

/// The failure of a step that met this error.
#[expect(clippy::needless_pass_by_value, reason = "called as `map_err(failure)`")]
pub fn failure(error: Error) -> Failure {
    let message = error.to_string();
    match error {
        Error::Io { .. } => Failure::transient(message),
        Error::OutOfMemory(_) => {
            Failure::transient(message).help("lower the batch size, or free memory of the device, and run again")
        }
        Error::Torch(_) => Failure::internal(message),
        Error::Training { .. } => {
            Failure::input(message).help("lower `learning_rate`, warm up longer, or look at the rows of this step")
        }
        // All others are about files, parameters or a device that stay as they are.
        _ => Failure::input(message),
    }
}

/// A row for which the device's memory does not suffice, even alone.
pub fn out_of_memory(message: String) -> RowFailure {
    RowFailure { class: "out of memory".to_owned(), message, transient: true }
}

#[cfg(test)]
mod tests {
    use pipe_engine::problem::FailureClass;

    use super::*;

    #[test]
    fn each_error_says_whether_running_again_helps() {
        let class = |error| failure(error).class;
        assert_eq!(class(Error::OutOfMemory("CUDA".into())), FailureClass::Transient);
        assert_eq!(class(Error::Torch("shapes".into())), FailureClass::Internal);
        assert_eq!(class(Error::Input("r = 0".into())), FailureClass::Input);
        assert_eq!(class(Error::Training { step: 1, reason: "the loss is NaN".into() }), FailureClass::Input);
        let unreadable = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(class(Error::Io { path: "a".into(), source: unreadable }), FailureClass::Transient);
    }
}
