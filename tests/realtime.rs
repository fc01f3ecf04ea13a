//! Proves that what JACK calls neither allocates nor calls the system.
//!
//! A binary of its own, because the allocator that aborts is one for the whole binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use sidetone::audio::{RtSide, voice_rings};

// With feature rt-check the library brings the same allocator.
#[cfg(not(feature = "rt-check"))]
#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;
#[cfg(feature = "rt-check")]
const _: AllocDisabler = AllocDisabler;

const PERIOD: usize = 128;
const PERIODS: u64 = 100_000;
/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// One callback as JACK makes it, on buffers that JACK owns.
fn period(rt: &mut RtSide, input: &[f32; PERIOD], output: &mut [f32; PERIOD]) {
    rt.process(input, output);
}

#[test]
fn a_hundred_thousand_periods_allocate_nothing_while_others_read_write_and_flush() {
    let (mut rt, mut capture, mut playback) = voice_rings(4096, 4096, 48_000);
    let control = playback.control();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut heard, mut last, mut captured) = (Vec::new(), 0.0, 0);
            loop {
                let ended = done.load(Ordering::Acquire);
                heard.clear();
                captured += capture.read_frames(&mut heard) as u64;
                // The periods are numbered. Some may be dropped when this thread is late; none comes twice or too late.
                for frame in &heard {
                    assert!(frame.mic >= last, "{} came after {last}", frame.mic);
                    last = frame.mic;
                }
                if ended && heard.is_empty() {
                    return captured + capture.dropped_frames();
                }
            }
        });
        let writer = scope.spawn(|| {
            let mut round = 0_u32;
            while !done.load(Ordering::Acquire) {
                playback.write(&[0.25; 1000]);
                round += 1;
                if round.is_multiple_of(50) {
                    playback.flush();
                }
            }
            playback.written_frames()
        });
        let mut output = [0.0; PERIOD];
        let mut loudest = 0.0_f32;
        let begun = Instant::now();
        let mut number = 0;
        // A machine with few cores may let the writer run late, and then flush whatever it wrote: until it was heard.
        while number < PERIODS || (loudest < 0.25 && begun.elapsed() < PATIENCE) {
            let input = [number as f32; PERIOD];
            assert_no_alloc(|| period(&mut rt, &input, &mut output));
            loudest = output.iter().fold(loudest, |loudest, sample| loudest.max(*sample));
            number += 1;
            if number.is_multiple_of(256) {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
        assert_eq!(reader.join().unwrap(), number * PERIOD as u64);
        let written = writer.join().unwrap();
        while !control.is_drained() {
            rt.process(&[0.0; PERIOD], &mut output);
        }
        assert_eq!(control.played_frames() + control.flushed_frames(), written);
        assert!(control.played_frames() > 0 && loudest == 0.25, "nothing was played: the test proves nothing");
    });
}

/// Runs `child` in a forked process and returns how that ended and what it wrote to the pipe that it was given.
///
/// `child` must not allocate: another thread may hold the allocator's lock at the fork.
#[cfg(target_os = "linux")]
fn forked(child: impl FnOnce(libc::c_int)) -> (libc::c_int, Vec<u8>) {
    use std::io::Read;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    let mut ends = [0; 2];
    // SAFETY: plain system calls; the child leaves by _exit at the latest.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        let (read, write) = (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]));
        match libc::fork() {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                child(write.as_raw_fd());
                libc::_exit(99)
            }
            pid => {
                drop(write);
                let mut said = Vec::new();
                std::fs::File::from(read).read_to_end(&mut said).unwrap();
                let mut status = 0;
                assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
                (status, said)
            }
        }
    }
}

/// From here on any system call but read, write, exit and sigreturn kills this process with SIGKILL.
#[cfg(target_os = "linux")]
fn enter_strict_mode() {
    // SAFETY: a plain system call.
    let refused = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    if refused != 0 {
        // SAFETY: leaves without running anything of the parent's.
        unsafe { libc::_exit(98) }
    }
}

/// Says that all went well, and leaves by the one exit that strict mode allows.
#[cfg(target_os = "linux")]
fn report_and_exit(pipe: libc::c_int) {
    // SAFETY: plain system calls on a byte that lives.
    unsafe {
        libc::write(pipe, b"k".as_ptr().cast(), 1);
        libc::syscall(libc::SYS_exit, 0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn thousands_of_periods_call_the_system_not_once() {
    let (mut rt, mut capture, mut playback) = voice_rings(PERIOD * 64, PERIOD * 64, 48_000);
    let control = playback.control();
    let mut heard = Vec::with_capacity(PERIOD * 64);
    let (status, said) = forked(|pipe| {
        let mut output = [0.0; PERIOD];
        enter_strict_mode();
        for number in 0..20_000_u32 {
            // All ways through: empty, full, flushed, faded, dropping.
            if !number.is_multiple_of(7) {
                playback.write(&[0.5; 200]);
            }
            if number.is_multiple_of(500) {
                control.flush();
            }
            period(&mut rt, &[number as f32; PERIOD], &mut output);
            if number.is_multiple_of(100) {
                heard.clear();
                capture.read_frames(&mut heard);
            }
        }
        if capture.dropped_frames() > 0 && control.flushed_frames() > 0 && control.underruns() > 0 {
            report_and_exit(pipe);
        }
    });
    assert!(libc::WIFEXITED(status), "killed by signal {}", libc::WTERMSIG(status));
    assert_eq!((libc::WEXITSTATUS(status), said.as_slice()), (0, b"k".as_slice()));
}

#[cfg(target_os = "linux")]
#[test]
fn one_system_call_in_a_period_would_be_noticed() {
    let (mut rt, _capture, _playback) = voice_rings(PERIOD * 64, PERIOD * 64, 48_000);
    let (status, said) = forked(|pipe| {
        let mut output = [0.0; PERIOD];
        enter_strict_mode();
        period(&mut rt, &[0.0; PERIOD], &mut output);
        // SAFETY: a plain system call, forbidden here.
        unsafe { libc::syscall(libc::SYS_getppid) };
        report_and_exit(pipe);
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL, "status {status:#x}");
    assert_eq!(said, b"");
}

#[cfg(target_os = "linux")]
#[test]
fn one_allocation_in_a_period_would_be_noticed() {
    let (mut rt, _capture, _playback) = voice_rings(PERIOD * 64, PERIOD * 64, 48_000);
    let (status, said) = forked(|pipe| {
        // The abort writes to stderr and would leave a core.
        // SAFETY: plain system calls.
        unsafe {
            libc::close(2);
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
        }
        let mut output = [0.0; PERIOD];
        assert_no_alloc(|| {
            period(&mut rt, &[0.0; PERIOD], &mut output);
            std::hint::black_box(Box::new(1_u8));
        });
        report_and_exit(pipe);
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "status {status:#x}");
    assert_eq!(said, b"");
}
