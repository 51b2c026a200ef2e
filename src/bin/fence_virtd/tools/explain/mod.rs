//! `--explain`: says by which groups of the configuration a requester may fence a VM, and if it may not, which
//! line would change that.
//!
//! | step | module |
//! | --- | --- |
//! | the requester on the command line | `asked` |
//! | VMs, as far as libvirt answers | `known_vms` |
//! | listeners by which the requester comes, and its identity there | `ways` |
//! | the decision, by the daemon's own code | `decision` |
//! | the line that is missing | `advice` |

mod advice;
mod asked;
mod decision;
mod known_vms;
mod run;
mod ways;

pub(crate) use run::run;
