/* A driver's libnvidia-ml.so.1 for tests: 8 GPUs, each with its own trouble.
 *
 *   0  used by the process that asks, by its init and, hidden, by one of another namespace
 *   1  used by a process whose memory the driver does not tell
 *   2  clocks held down by its power cap; ECC errors
 *   3  reports an XID once
 *   4  MIG on, cut into two of three slots
 *   5  no power readings, no energy counter, no NVLink
 *   6  lost: every call fails
 *   7  an older driver: throttle reasons under their older name, no process list, no PCIe counters
 *
 * While the file that STUB_NVML_HANG names is there, asking for utilisation hangs; the file's name
 * with ".hung" is made when it does.
 *
 * Structures as in nvml.h, as far as they are used.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int result;
enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { GPUS = 8, OWN = 0, UNTOLD = 1, HOT = 2, FAULTY = 3, CUT = 4, POWERLESS = 5, GONE = 6, OLD = 7 };
#define GIB (1024ull * 1024 * 1024)
#define NOT_AVAILABLE 0xFFFFFFFFFFFFFFFFull

typedef struct device {
    int index;
    int slot; /* of a MIG instance, else -1 */
} device;

static device gpus[GPUS];
static device instances[3];
static int opened, watched[GPUS], reported;
static unsigned long long moved_kib[GPUS];

#define ASKED_OF(gpu) \
    do { \
        if (!opened) return 1; \
        if ((gpu) == NULL) return INVALID; \
        if ((gpu)->index == GONE) return LOST; \
    } while (0)

result nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    for (int i = 0; i < GPUS; i++) gpus[i] = (device){i, -1};
    for (int i = 0; i < 3; i++) instances[i] = (device){CUT, i};
    opened++;
    return OK;
}

result nvmlShutdown(void) {
    opened--;
    return OK;
}

const char *nvmlErrorString(result error) {
    return error == LOST ? "GPU is lost" : "Some error";
}

result nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "580.65.06");
    return OK;
}

result nvmlDeviceGetCount_v2(unsigned *count) {
    *count = GPUS;
    return opened ? OK : 1;
}

result nvmlDeviceGetHandleByIndex_v2(unsigned index, device **gpu) {
    if (index >= GPUS) return INVALID;
    ASKED_OF(&gpus[index]);
    *gpu = &gpus[index];
    return OK;
}

result nvmlDeviceGetIndex(device *gpu, unsigned *index) {
    ASKED_OF(gpu);
    *index = gpu->index;
    return OK;
}

result nvmlDeviceGetName(device *gpu, char *text, unsigned size) {
    ASKED_OF(gpu);
    if (gpu->slot >= 0)
        snprintf(text, size, "NVIDIA H100 80GB HBM3 MIG %s", gpu->slot ? "3g.40gb" : "1g.10gb");
    else
        snprintf(text, size, "NVIDIA H100 80GB HBM3");
    return OK;
}

result nvmlDeviceGetUUID(device *gpu, char *text, unsigned size) {
    ASKED_OF(gpu);
    snprintf(text, size, "GPU-%d", gpu->index);
    return OK;
}

result nvmlDeviceGetUtilizationRates(device *gpu, unsigned rates[2]) {
    ASKED_OF(gpu);
    const char *hang = getenv("STUB_NVML_HANG");
    while (hang && access(hang, F_OK) == 0) {
        char mark[4096];
        snprintf(mark, sizeof mark, "%s.hung", hang);
        FILE *made = fopen(mark, "w");
        if (made) fclose(made);
        usleep(2000);
    }
    if (gpu->index == CUT) return UNSUPPORTED;
    rates[0] = 10 * gpu->index;
    rates[1] = 5;
    return OK;
}

result nvmlDeviceGetMemoryInfo(device *gpu, unsigned long long memory[3]) {
    ASKED_OF(gpu);
    unsigned long long total = 80 * GIB, used = 8 * GIB * gpu->index;
    if (gpu->slot >= 0) {
        total = gpu->slot ? 40 * GIB : 10 * GIB;
        used = GIB;
    }
    memory[0] = total;
    memory[1] = total - used;
    memory[2] = used;
    return OK;
}

result nvmlDeviceGetPowerUsage(device *gpu, unsigned *milliwatts) {
    ASKED_OF(gpu);
    *milliwatts = 600500 + gpu->index;
    return gpu->index == POWERLESS ? UNSUPPORTED : OK;
}

result nvmlDeviceGetEnforcedPowerLimit(device *gpu, unsigned *milliwatts) {
    ASKED_OF(gpu);
    *milliwatts = 700000;
    return gpu->index == POWERLESS ? UNSUPPORTED : OK;
}

result nvmlDeviceGetTotalEnergyConsumption(device *gpu, unsigned long long *millijoules) {
    ASKED_OF(gpu);
    *millijoules = 1234567 + gpu->index;
    return gpu->index == POWERLESS ? UNSUPPORTED : OK;
}

result nvmlDeviceGetTemperatureV(device *gpu, unsigned temperature[3]) {
    ASKED_OF(gpu);
    temperature[2] = 60 + gpu->index;
    return gpu->index == OLD ? UNSUPPORTED : OK;
}

result nvmlDeviceGetTemperature(device *gpu, unsigned sensor, unsigned *celsius) {
    ASKED_OF(gpu);
    *celsius = 50 + sensor;
    return OK;
}

result nvmlDeviceGetClockInfo(device *gpu, unsigned type, unsigned *mhz) {
    ASKED_OF(gpu);
    *mhz = type == 2 ? 2619 : 1755;
    return OK;
}

result nvmlDeviceGetMaxClockInfo(device *gpu, unsigned type, unsigned *mhz) {
    ASKED_OF(gpu);
    *mhz = type == 2 ? 2619 : 1980;
    return OK;
}

result nvmlDeviceGetCurrentClocksEventReasons(device *gpu, unsigned long long *reasons) {
    ASKED_OF(gpu);
    *reasons = gpu->index == HOT ? 0x4 : 0x1;
    return gpu->index == OLD ? UNSUPPORTED : OK;
}

result nvmlDeviceGetCurrentClocksThrottleReasons(device *gpu, unsigned long long *reasons) {
    ASKED_OF(gpu);
    *reasons = 0x20;
    return OK;
}

struct process {
    unsigned pid;
    unsigned long long bytes;
    unsigned instance, compute;
};

result nvmlDeviceGetComputeRunningProcesses_v3(device *gpu, unsigned *count, struct process *found) {
    ASKED_OF(gpu);
    struct process own[] = {{(unsigned)getpid(), 60 * GIB, ~0u, ~0u}, {1, 2 * GIB, ~0u, ~0u}, {4194303, GIB, ~0u, ~0u}};
    struct process untold[] = {{1, NOT_AVAILABLE, ~0u, ~0u}};
    unsigned there = gpu->index == OWN ? 3 : gpu->index == UNTOLD ? 1 : 0;
    if (gpu->index == OLD) return UNSUPPORTED;
    if (*count < there) {
        *count = there;
        return TOO_SMALL;
    }
    *count = there;
    if (there) memcpy(found, there == 3 ? own : untold, there * sizeof *found);
    return OK;
}

result nvmlDeviceGetPcieThroughput(device *gpu, unsigned way, unsigned *kb_per_s) {
    ASKED_OF(gpu);
    *kb_per_s = (way ? 1000000 : 2000000) + gpu->index; /* 0 is out of the GPU */
    return gpu->index == OLD ? UNSUPPORTED : OK;
}

struct field {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type;
    result returned;
    unsigned long long value;
};

result nvmlDeviceGetFieldValues(device *gpu, int count, struct field *fields) {
    ASKED_OF(gpu);
    moved_kib[gpu->index] += 1000 * (gpu->index + 1);
    for (int i = 0; i < count; i++) {
        /* One link alone has moved next to nothing. */
        int known = (fields[i].id == 138 || fields[i].id == 139) && gpu->index != POWERLESS;
        fields[i].returned = known ? OK : UNSUPPORTED;
        fields[i].type = 3;
        fields[i].value = fields[i].scope == ~0u ? moved_kib[gpu->index] * (fields[i].id - 137) : 1;
    }
    return OK;
}

result nvmlDeviceGetTotalEccErrors(device *gpu, unsigned kind, unsigned counter, unsigned long long *count) {
    ASKED_OF(gpu);
    *count = gpu->index == HOT ? (kind ? 2 : 17) : 0;
    if (counter) *count += 1000; /* in all its life */
    return gpu->index == OLD ? UNSUPPORTED : OK;
}

result nvmlDeviceGetMigMode(device *gpu, unsigned *current, unsigned *pending) {
    ASKED_OF(gpu);
    *current = *pending = gpu->index == CUT;
    return gpu->index == OLD ? UNSUPPORTED : OK;
}

result nvmlDeviceGetMaxMigDeviceCount(device *gpu, unsigned *count) {
    ASKED_OF(gpu);
    *count = 3;
    return OK;
}

result nvmlDeviceGetMigDeviceHandleByIndex(device *gpu, unsigned slot, device **instance) {
    ASKED_OF(gpu);
    if (gpu->index != CUT || slot == 1) return NOT_FOUND;
    *instance = &instances[slot];
    return OK;
}

result nvmlEventSetCreate(void **set) {
    *set = watched;
    return OK;
}

result nvmlEventSetFree(void *set) {
    return set == watched ? OK : INVALID;
}

result nvmlDeviceRegisterEvents(device *gpu, unsigned long long kinds, void *set) {
    ASKED_OF(gpu);
    if (set != watched || kinds != 8) return INVALID;
    watched[gpu->index] = 1;
    return gpu->index == OLD ? UNSUPPORTED : OK;
}

struct event {
    device *gpu;
    unsigned long long kind, data;
    unsigned instance, compute;
};

result nvmlEventSetWait_v2(void *set, struct event *event, unsigned timeout_ms) {
    if (set != watched || timeout_ms) return INVALID;
    if (!watched[FAULTY] || reported++) return TIMEOUT;
    *event = (struct event){&gpus[FAULTY], 8, 74, ~0u, ~0u};
    return OK;
}
