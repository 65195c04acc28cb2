//! `workspace_create` as an operation: the workspace, and what of its seed was left out.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    Observer, Progress, Pyro,
    contract::{WorkspaceCreate, WorkspaceCreated},
    error::Result,
};

impl Pyro {
    /// Creates a workspace and describes it.
    ///
    /// # Errors
    /// As [`Pyro::create_workspace`].
    pub async fn create_and_describe(&self, request: WorkspaceCreate, observer: &Observer) -> Result<WorkspaceCreated> {
        let left_out = Arc::new(Mutex::new((Vec::new(), 0)));
        let listening = {
            let (left_out, observer) = (left_out.clone(), observer.clone());
            Observer::new(move |progress| {
                if let Progress::LeftOut { entries, count } = &progress {
                    *left_out.lock().unwrap_or_else(PoisonError::into_inner) = (entries.clone(), *count);
                }
                observer.notify(progress);
            })
        };
        let status = self.create_workspace(request, &listening).await?.status().await?;
        let (entries, left_out_count) = std::mem::take(&mut *left_out.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(WorkspaceCreated { status, left_out: entries.into_iter().map(Into::into).collect(), left_out_count })
    }
}
