//! Subnormal numbers on the threads that run models.
//!
//! A processor computes with numbers below 2^-126 in microcode, up to a hundred times slower. A quiet
//! recording makes many of them, and no model tells them from zero.

/// Makes the calling thread treat subnormal inputs and results as zero, where the processor can.
#[allow(unsafe_code)]
pub(super) fn flush_on_this_thread() {
    #[cfg(target_arch = "x86_64")]
    {
        // Bit 15: results (flush to zero); bit 6: inputs (denormals are zero).
        let mut mxcsr: u32 = 0;
        // SAFETY: both instructions are of SSE, which x86-64 always has, and touch only this variable and the
        // thread's own MXCSR; the two bits change no exception mask and no rounding.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags));
            mxcsr |= 1 << 15 | 1 << 6;
            std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr, options(nostack, preserves_flags));
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let mut fpcr: u64;
        // SAFETY: FPCR is the thread's own; bit 24 (flush to zero) changes no exception and no rounding.
        unsafe {
            std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags));
            fpcr |= 1 << 24;
            std::arch::asm!("msr fpcr, {}", in(reg) fpcr, options(nomem, nostack, preserves_flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn subnormals_are_zero_on_a_thread_that_asks_for_it_and_on_no_other() {
        let half_of_the_smallest = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        let flushed = std::thread::spawn(move || {
            flush_on_this_thread();
            half_of_the_smallest()
        });
        assert_eq!(flushed.join().unwrap(), 0.0);
        assert!(half_of_the_smallest() > 0.0);
    }
}
