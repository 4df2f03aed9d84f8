//! What the driver's contract runs on: a kernel, a driver on it, and what makes descriptors there.

// Each of the test programs that share this uses a part of it.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use oxloop_core::driver::kernel::{self, Kernel};
use oxloop_core::driver::sim::{Link, RingDriver, SimFd};
use oxloop_core::sys::{fd, time};
use oxloop_core::{Descriptor, Driver, EpollDriver, SimConfig, SimDriver, SimKernel};

type Fd<M> = <<M as Machine>::Kernel as Kernel>::Fd;

/// Makes a connection.
type Connect<M> = Box<dyn Fn(&M) -> Fd<M>>;

/// See the module's text. All descriptors are non-blocking.
pub trait Machine: Sized {
    type Kernel: Kernel;
    type Driver: Driver<Vec<u8>>;

    fn kernel(&self) -> Self::Kernel;
    fn driver(&self) -> Self::Driver;
    /// Connected sockets between which bytes take no time.
    fn pair(&self) -> (Fd<Self>, Fd<Self>);
    /// The end to read from, the end to write to.
    fn pipe(&self) -> (Fd<Self>, Fd<Self>);
    /// A listener and its address.
    fn listen(&self) -> (Fd<Self>, SocketAddr);
    fn connect(&self, address: SocketAddr) -> Fd<Self>;
    fn local_port(&self, fd: &Fd<Self>) -> u16;
    /// A listener, and what makes a connection that waits there when it returns.
    fn listen_at_once(&self) -> (Fd<Self>, Connect<Self>);
    /// dup2.
    fn duplicate_onto(&self, source: &Fd<Self>, target: &mut Fd<Self>);
    fn regular_file(&self) -> Fd<Self>;
    /// An internet datagram socket, connected to a peer if one is given, and its address.
    fn datagram(&self, peer: Option<SocketAddr>) -> (Fd<Self>, SocketAddr);
    /// Two datagram sockets that are connected to one another and lose nothing that they take.
    fn datagram_pair(&self) -> (Fd<Self>, Fd<Self>);
    /// What must be true of a descriptor that accept gave.
    fn check_accepted(&self, accepted: Descriptor);
    /// The clock by which waits are measured.
    fn now_ns(&self) -> i64;
    /// Lives as long as a thread works that will wake the driver.
    fn outside_work(&self) -> Box<dyn Send>;
}

/// The process's own kernel, by epoll.
pub struct Linux;

impl Machine for Linux {
    type Kernel = kernel::Linux;
    type Driver = EpollDriver<Vec<u8>>;

    fn kernel(&self) -> kernel::Linux {
        kernel::Linux
    }

    fn driver(&self) -> Self::Driver {
        EpollDriver::new().unwrap()
    }

    fn pair(&self) -> (OwnedFd, OwnedFd) {
        let (left, right) = UnixStream::pair().unwrap();
        left.set_nonblocking(true).unwrap();
        right.set_nonblocking(true).unwrap();
        (left.into(), right.into())
    }

    fn pipe(&self) -> (OwnedFd, OwnedFd) {
        fd::pipe().unwrap()
    }

    fn listen(&self) -> (OwnedFd, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (listener.into(), address)
    }

    fn connect(&self, address: SocketAddr) -> OwnedFd {
        TcpStream::connect(address).unwrap().into()
    }

    fn local_port(&self, fd: &OwnedFd) -> u16 {
        let socket = TcpStream::from(fd.try_clone().unwrap());
        socket.local_addr().unwrap().port()
    }

    fn listen_at_once(&self) -> (OwnedFd, Connect<Self>) {
        // An abstract Unix address: a connection is in the queue as soon as connect returns.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("oxloop-accepts-{}-{number}", std::process::id());
        let address = UnixAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let connect = move |_: &Self| UnixStream::connect_addr(&address).unwrap().into();
        (listener.into(), Box::new(connect))
    }

    fn duplicate_onto(&self, source: &OwnedFd, target: &mut OwnedFd) {
        fd::duplicate_onto(source.as_fd(), target).unwrap();
    }

    fn regular_file(&self) -> OwnedFd {
        std::fs::File::open("/proc/self/exe").unwrap().into()
    }

    fn datagram(&self, peer: Option<SocketAddr>) -> (OwnedFd, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        peer.into_iter().for_each(|peer| socket.connect(peer).unwrap());
        let address = socket.local_addr().unwrap();
        (socket.into(), address)
    }

    fn datagram_pair(&self) -> (OwnedFd, OwnedFd) {
        let (left, right) = UnixDatagram::pair().unwrap();
        left.set_nonblocking(true).unwrap();
        right.set_nonblocking(true).unwrap();
        (left.into(), right.into())
    }

    fn check_accepted(&self, accepted: Descriptor) {
        let accepted = accepted.into_kernel().unwrap();
        assert!(fd::is_close_on_exec(accepted.as_raw_fd()).unwrap());
    }

    fn now_ns(&self) -> i64 {
        time::monotonic_ns()
    }

    fn outside_work(&self) -> Box<dyn Send> {
        Box::new(())
    }
}

/// A kernel in memory, by one of its drivers.
pub struct Simulated<D> {
    kernel: SimKernel,
    make: fn(SimKernel) -> D,
}

impl Simulated<SimDriver<Vec<u8>>> {
    pub fn epoll(seed: u64) -> Self {
        let make = |kernel| SimDriver::over(kernel, 64 * 1024).unwrap();
        Simulated { kernel: SimKernel::new(SimConfig::new(seed)), make }
    }
}

impl Simulated<RingDriver<Vec<u8>>> {
    pub fn ring(seed: u64) -> Self {
        let make = |kernel| RingDriver::over(kernel, 64 * 1024).unwrap();
        Simulated { kernel: SimKernel::new(SimConfig::new(seed)), make }
    }
}

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

impl<D: Driver<Vec<u8>>> Machine for Simulated<D> {
    type Kernel = SimKernel;
    type Driver = D;

    fn kernel(&self) -> SimKernel {
        self.kernel.clone()
    }

    fn driver(&self) -> Self::Driver {
        (self.make)(self.kernel.clone())
    }

    fn pair(&self) -> (SimFd, SimFd) {
        self.kernel.pair(Link::LOCAL).unwrap()
    }

    fn pipe(&self) -> (SimFd, SimFd) {
        self.kernel.pipe().unwrap()
    }

    fn listen(&self) -> (SimFd, SocketAddr) {
        let listener = self.kernel.listen(SocketAddr::new(HOST, 0), 16).unwrap();
        let address = self.kernel.local_address(listener.as_raw_fd()).unwrap();
        (listener, address)
    }

    fn connect(&self, address: SocketAddr) -> SimFd {
        self.kernel.connect(HOST, address).unwrap()
    }

    fn local_port(&self, fd: &SimFd) -> u16 {
        self.kernel.local_address(fd.as_raw_fd()).unwrap().port()
    }

    fn listen_at_once(&self) -> (SimFd, Connect<Self>) {
        let (listener, address) = self.listen();
        (listener, Box::new(move |machine| machine.connect(address)))
    }

    fn duplicate_onto(&self, source: &SimFd, target: &mut SimFd) {
        self.kernel.duplicate_onto(source, target).unwrap();
    }

    fn regular_file(&self) -> SimFd {
        self.kernel.regular_file().unwrap()
    }

    fn datagram(&self, peer: Option<SocketAddr>) -> (SimFd, SocketAddr) {
        let address = self.kernel.free_address(HOST);
        (self.kernel.datagram(address, peer).unwrap(), address)
    }

    fn datagram_pair(&self) -> (SimFd, SimFd) {
        let [left, right] = [(); 2].map(|()| self.kernel.free_address(HOST));
        let socket = |own, peer| self.kernel.datagram(own, Some(peer)).unwrap();
        (socket(left, right), socket(right, left))
    }

    fn check_accepted(&self, accepted: Descriptor) {
        assert!(accepted.into_kernel().is_err());
    }

    fn now_ns(&self) -> i64 {
        self.kernel.now_ns()
    }

    fn outside_work(&self) -> Box<dyn Send> {
        Box::new(self.kernel.outside_work())
    }
}
