//! Query whether a domain is migrating to another host, before it is destroyed.
//!
//! libvirt tells the job of a domain only when no other call holds the domain: 30 s late if another client
//! waits for a QEMU that hangs, and not before its end if that QEMU hangs during its migration. So libvirt is
//! asked first whether a call holds the domain, which it answers at once, and the query itself has a limit.
#![forbid(unsafe_code)]

use std::time::Duration;

use virt::error::ErrorNumber;
use virt::sys;

use super::callbacks::{control_state, job_operation};
use super::connection::Connection;
use super::error::{LibvirtError, LibvirtResult};
use fence_virt::sys::error_text;
use fence_virt::sys::mutex::lock;
use fence_virt::sys::with_timeout::with_timeout;

/// Limit of the query for the job.
const LIMIT: Duration = Duration::from_secs(1);

impl Connection {
    /// Returns true if a domain is migrating to another host, or may be.
    pub(super) fn has_outgoing_migration(&self, uuid: &str) -> LibvirtResult<bool> {
        let Some(domain) = self.by_uuid(uuid)? else { return Ok(false) };
        match control_state(&domain) {
            // A call of a job in the background: of which kind is not told.
            Ok(sys::VIR_DOMAIN_CONTROL_JOB) => Ok(true),
            // A call, but no job in the background.
            Ok(sys::VIR_DOMAIN_CONTROL_OCCUPIED) => Ok(false),
            Ok(sys::VIR_DOMAIN_CONTROL_OK) => self.ask_for_job(uuid),
            Ok(_) => Err(LibvirtError::Other("libvirt has lost control of the VM".to_owned())),
            Err(error) if error.code() == ErrorNumber::NoSupport => self.ask_for_job(uuid),
            Err(error) => Err(error.into()),
        }
    }

    /// Queries the job on a connection of its own, in a thread that is left behind at the limit: the query
    /// ends with the domain.
    fn ask_for_job(&self, uuid: &str) -> LibvirtResult<bool> {
        let (uri, uuid, spare) = (self.uri().to_owned(), uuid.to_owned(), self.spare.clone());
        let asked = with_timeout(LIMIT, move || {
            let idle = lock(&spare).take().filter(|connection| connection.check().is_ok());
            let connection = idle.map_or_else(|| Connection::open(&uri).map(Box::new), Ok)?;
            let answer = connection.job_is_outgoing_migration(&uuid);
            *lock(&spare) = Some(connection);
            answer
        });
        match asked {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(LibvirtError::Busy(format!("no answer within {} s", LIMIT.as_secs()))),
            Err(error) => Err(LibvirtError::Other(format!("cannot start a thread: {}", error_text(&error)))),
        }
    }

    fn job_is_outgoing_migration(&self, uuid: &str) -> LibvirtResult<bool> {
        let Some(domain) = self.by_uuid(uuid)? else { return Ok(false) };
        match job_operation(&domain) {
            Ok(operation) => Ok(matches!(
                operation,
                Some(sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT | sys::VIR_DOMAIN_JOB_OPERATION_UNKNOWN)
            )),
            // Drivers without jobs.
            Err(error) if error.code() == ErrorNumber::NoSupport => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::Host;

    const RUNNING: &str = "aaaaaaaa-0000-4000-8000-000000000001";
    const OFF: &str = "aaaaaaaa-0000-4000-8000-000000000005";
    const ABSENT: &str = "aaaaaaaa-0000-4000-8000-000000000009";

    #[test]
    fn a_driver_without_migrations_has_none() {
        let domain = |uuid: &str, state: u8| {
            format!(
                "<domain type='test'><name>{state}</name><uuid>{uuid}</uuid><memory>65536</memory>\
                 <os><type>hvm</type></os><test:runstate \
                 xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>{state}</test:runstate></domain>"
            )
        };
        let file = std::env::temp_dir().join(format!("fence-leaving-{}.xml", std::process::id()));
        std::fs::write(&file, format!("<node>{}{}</node>", domain(RUNNING, 1), domain(OFF, 5))).unwrap();
        let connection = Connection::open(&format!("test://{}", file.display())).unwrap();
        assert_eq!(connection.is_leaving(RUNNING), Ok(false));
        assert!(lock(&connection.spare).is_some(), "the next query takes the same connection");
        assert_eq!(connection.is_leaving(ABSENT), Ok(false));
        assert!(connection.is_leaving(OFF).is_err(), "it does not run");
        std::fs::remove_file(&file).unwrap();
    }
}
