//! `workspace_create` as an operation: the workspace, and what there is to say of its seed.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    Observer, Progress, Pyro,
    contract::{WorkspaceCreate, WorkspaceCreated},
    error::Result,
};

/// What was said of the seed while the workspace was made.
#[derive(Default)]
struct Heard {
    left_out: Vec<pyro_tree::LeftOut>,
    left_out_count: u64,
    notes: Vec<pyro_tree::Note>,
}

impl Pyro {
    /// Creates a workspace and describes it.
    ///
    /// # Errors
    /// As [`Pyro::create_workspace`].
    pub async fn create_and_describe(&self, request: WorkspaceCreate, observer: &Observer) -> Result<WorkspaceCreated> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let listening = {
            let (heard, observer) = (heard.clone(), observer.clone());
            Observer::new(move |progress| {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                if let Progress::LeftOut { entries, count } = &progress {
                    (heard.left_out, heard.left_out_count) = (entries.clone(), *count);
                } else if let Progress::Notes(notes) = &progress {
                    heard.notes.clone_from(notes);
                }
                drop(heard);
                observer.notify(progress);
            })
        };
        let status = self.create_workspace(request, &listening).await?.status().await?;
        let Heard { left_out, left_out_count, notes } = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
        let left_out = left_out.into_iter().map(Into::into).collect();
        Ok(WorkspaceCreated { status, left_out, left_out_count, notes: notes.into_iter().map(Into::into).collect() })
    }
}
