//! A whole tenant on a driver made of functions in this process: what it sends, sees, records and says.

mod compiling;
mod fake;
mod noise;
mod orders;
mod together;
mod windows;

use std::collections::BTreeMap;
use std::io::{BufReader, PipeReader, PipeWriter, Write, pipe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::commons::Commons;
use super::{TenantError, serve_with};
use crate::cuda::{CudaError, Driver};
use crate::host::clock::now;
use crate::tenant::Region;
use crate::tenant::protocol::{
    Failed, Load, Loaded, Order, PROTOCOL, ProgramOrder, Reply, WindowDone, WindowLoad, WindowOrder,
};
use crate::units::Nanos;

type Loader = fn() -> Result<&'static Driver, CudaError>;

/// The other side of a tenant.
struct Controller {
    orders: Option<PipeWriter>,
    replies: BufReader<PipeReader>,
    region: Arc<Region>,
    tenant: Option<JoinHandle<Result<(), TenantError>>>,
}

impl Controller {
    /// A tenant that has just been started, in a process of its own.
    fn start(rows: usize, driver: Loader) -> Self {
        Self::start_in(rows, driver, &Arc::default())
    }

    /// One that has just been started in the process that has these things in common.
    fn start_in(rows: usize, driver: Loader, commons: &Arc<Commons>) -> Self {
        let (orders_in, orders) = pipe().unwrap();
        let (replies, replies_out) = pipe().unwrap();
        let region = Arc::new(Region::create(&tempfile::tempfile().unwrap(), rows).unwrap());
        let theirs = Arc::clone(&region);
        let (reader, commons) = (BufReader::new(orders_in), Arc::clone(commons));
        let tenant = thread::spawn(move || serve_with(reader, replies_out, theirs, commons, driver));
        Self { orders: Some(orders), replies: BufReader::new(replies), region, tenant: Some(tenant) }
    }

    /// One that has said hello.
    fn greeted(rows: usize) -> Self {
        Self::start(rows, fake::driver).greet()
    }

    fn greet(self) -> Self {
        let mut tenant = self;
        let reply = tenant.ask(&Order::Hello { protocol: PROTOCOL, crosstalk: "test".to_owned() });
        assert!(matches!(reply, Reply::Hello { protocol: PROTOCOL, .. }));
        tenant
    }

    /// One that holds these programs.
    fn holding(rows: usize, load: Load) -> (Self, Loaded) {
        let mut tenant = Self::greeted(rows);
        match tenant.ask(&Order::Load(load)) {
            Reply::Loaded(loaded) => (tenant, loaded),
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, text: &str) {
        self.orders.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Reply {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.replies, &mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
    }

    fn ask(&mut self, order: &Order) -> Reply {
        self.say(&(serde_json::to_string(order).unwrap() + "\n"));
        self.hear()
    }

    fn window(&mut self, order: WindowOrder) -> Result<WindowDone, Failed> {
        match self.ask(&Order::Window(order)) {
            Reply::Window(done) => Ok(done),
            Reply::Failed(failed) => Err(failed),
            other => panic!("{other:?}"),
        }
    }

    /// Says nothing more, and how the tenant ended.
    fn hang_up(mut self) -> Result<(), TenantError> {
        self.orders = None;
        self.tenant.take().unwrap().join().unwrap()
    }
}

fn load(programs: &[(&str, &[(&str, &str)])]) -> Load {
    let program = |(workload, params): &(&str, &[(&str, &str)])| ProgramOrder {
        name: format!("my-{workload}"),
        workload: (*workload).to_owned(),
        params: params.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
    };
    Load {
        device: Some(fake::UUID.to_owned()),
        model: Some("h100-sxm".to_owned()),
        together: None,
        programs: programs.iter().map(program).collect(),
        arena: false,
        budget: None,
        outstanding: 4,
        cores: Vec::new(),
        spin: false,
        keep_awake: None,
        seed: 7,
    }
}

/// Closed, one in flight, 40 ms.
fn window() -> WindowOrder {
    WindowOrder {
        program: 0,
        load: WindowLoad::Closed,
        limit: 1,
        start: now(),
        length: Nanos::millis(40),
        drain: Nanos::secs(5),
        delay: Nanos::ZERO,
    }
}
