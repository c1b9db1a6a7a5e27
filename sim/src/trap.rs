//! Clocks and the system's randomness are out of reach of a run.
//!
//! A run is a function of its scenario and of the build. What could make it something else without
//! anybody's notice is a clock that is read, or a random number, deep in some library. So this
//! binary has the functions of the C library by which programs get at them: its own come first when
//! it is linked. While a run goes on on the calling thread they name themselves and end the
//! process; at all other times they ask the system. What is inlined or calls the system by itself
//! is not seen, nor is a thread that a run would start.

#![expect(
    unsafe_code,
    reason = "functions of the C library are replaced, which is unsafe to do and to be"
)]

use std::ffi::{c_int, c_uint, c_void};

use kdelta_sim::running;

/// Ends the process if a run goes on on this thread.
fn guard(name: &str) {
    if !running::is_running() {
        return;
    }
    // Neither locks nor allocates: it may be called from anywhere.
    for part in ["trap: a run called ", name, ": it would depend on more than its seed\n"] {
        // SAFETY: the bytes are there for as long as the call lasts.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: has no conditions.
    unsafe { libc::abort() }
}

fn clock(id: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller of the C function answers for the pointer.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, id, time) };
    c_int::try_from(done).unwrap_or(-1)
}

/// `clock_gettime(2)`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(id: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    guard("clock_gettime");
    clock(id, time)
}

/// `gettimeofday(2)`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(time: *mut libc::timeval, zone: *mut c_void) -> c_int {
    guard("gettimeofday");
    // SAFETY: the caller of the C function answers for the pointers.
    let done = unsafe { libc::syscall(libc::SYS_gettimeofday, time, zone) };
    c_int::try_from(done).unwrap_or(-1)
}

/// `time(2)`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn time(seconds: *mut libc::time_t) -> libc::time_t {
    guard("time");
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    if clock(libc::CLOCK_REALTIME, &raw mut now) != 0 {
        return -1;
    }
    if !seconds.is_null() {
        // SAFETY: the caller of the C function answers for a pointer that is not null.
        unsafe { seconds.write(now.tv_sec) };
    }
    now.tv_sec
}

/// `getrandom(2)`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(bytes: *mut c_void, len: usize, flags: c_uint) -> isize {
    guard("getrandom");
    // SAFETY: the caller of the C function answers for the pointer.
    let done = unsafe { libc::syscall(libc::SYS_getrandom, bytes, len, flags) };
    isize::try_from(done).unwrap_or(-1)
}

/// `getentropy(3)`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(bytes: *mut c_void, len: usize) -> c_int {
    guard("getentropy");
    // SAFETY: the caller of the C function answers for the pointer.
    let done = unsafe { libc::syscall(libc::SYS_getrandom, bytes, len, 0) };
    // At most 256 bytes may be asked for, and those come whole.
    if usize::try_from(done).is_ok_and(|done| done == len) { 0 } else { -1 }
}

/// Does in a run what no run may do, to show that it is noticed.
pub(crate) fn provoke(what: &str) -> Option<String> {
    let _running = running::begin();
    match what {
        "instant" => Some(format!("{:?}", std::time::Instant::now())),
        "system-time" => Some(format!("{:?}", std::time::SystemTime::now())),
        "hash-map" => {
            let map = std::collections::HashMap::from([(1, 2)]);
            Some(format!("{map:?}"))
        }
        "nothing" => Some("nothing happened".to_owned()),
        _ => None,
    }
}
