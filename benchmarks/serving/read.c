/* Reads an array with all threads; see machine.py. */
#include <omp.h>

double read_all(const float *numbers, long count) {
    double total = 0;
#pragma omp parallel reduction(+ : total)
    {
        long thread = omp_get_thread_num(), threads = omp_get_num_threads();
        long start = count / threads * thread, stop = thread == threads - 1 ? count : count / threads * (thread + 1);
        float sums[64] = {0}; /* enough independent sums that reading, not adding, is what takes time */
        for (long i = start; i + 64 <= stop; i += 64)
            for (int j = 0; j < 64; j++) sums[j] += numbers[i + j];
        for (int j = 0; j < 64; j++) total += sums[j];
    }
    return total;
}
