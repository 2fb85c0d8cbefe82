/* A libnvidia-ml.so.1 whose answers stand in a text file, which is read again on every call: faults flip mid-run.
 *
 * A line is `<device> <field> <value>`. A device is `0`, or `0/1` for the MIG instance 1 of device 0, or `*` for what
 * belongs to none. A value `!15` is the NVML return code 15. A field that has no line is not supported (code 3).
 * `<device> all !15` answers every call on the device. `* sleep:<function> 3` makes a call take three seconds.
 * __init__.py beside this file has the names of the fields, and writes the file.
 *
 * Built with -DOLD_DRIVER it is without the functions that came late.
 * NVML_STUB_CONTROL: the file. NVML_STUB_READ_ONCE: read it once only, to measure what the caller costs.
 *
 * Source: NVIDIA, NVML API reference (docs.nvidia.com/deploy/nvml-api): signatures, structures and return codes. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned int uint;
typedef unsigned long long wide;

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED = 9 };
enum { DEVICES = 16, INSTANCES = 8, LINES = 160, WHOLE = 0 };

typedef struct { char field[56], value[96]; } Line;
typedef struct { int count; Line lines[LINES]; } Device;

static Device everywhere, devices[DEVICES][1 + INSTANCES]; /* [n][0] is the whole device, [n][1 + m] its instance m */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int begun, has_read;

static Device *named(const char *name) {
    int device, instance;
    if (!strcmp(name, "*")) return &everywhere;
    switch (sscanf(name, "%d/%d", &device, &instance)) {
        case 1: return &devices[device % DEVICES][WHOLE];
        case 2: return &devices[device % DEVICES][1 + instance % INSTANCES];
    }
    return NULL;
}

static void read_control(void) {
    const char *path = getenv("NVML_STUB_CONTROL");
    char name[16], field[56], value[96];
    if (has_read && getenv("NVML_STUB_READ_ONCE")) return;
    has_read = 1;
    everywhere.count = 0;
    for (int n = 0; n < DEVICES; n++) for (int m = 0; m <= INSTANCES; m++) devices[n][m].count = 0;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) { strcpy(everywhere.lines[0].field, "driver"); strcpy(everywhere.lines[everywhere.count++].value, "none"); return; }
    while (fscanf(file, "%15s %55s %95[^\n]", name, field, value) == 3) {
        Device *device = named(name);
        if (!device || device->count == LINES) continue;
        Line *line = &device->lines[device->count++];
        strcpy(line->field, field);
        strcpy(line->value, value);
    }
    fclose(file);
}

static const char *find(const Device *device, const char *field) {
    for (int i = 0; i < device->count; i++) if (!strcmp(device->lines[i].field, field)) return device->lines[i].value;
    return NULL;
}

static int code_of(const char *value) { return !value ? NOT_SUPPORTED : *value == '!' ? atoi(value + 1) : SUCCESS; }

static Device *whole(Device *device) { return devices[(device - &devices[0][0]) / (1 + INSTANCES)]; }

/* The text of a field, or the code that it fails with. */
static int text(Device *device, const char *field, const char **found) {
    const char *everything = find(whole(device), "all");
    if (everything) return code_of(everything);
    *found = find(device, field);
    return code_of(*found);
}

static int number(Device *device, const char *field, wide *to) {
    const char *found;
    int code = text(device, field, &found);
    if (!code) *to = strtoull(found, NULL, 0);
    return code;
}

/* Every call begins here, and ends with done(). */
static void enter(const char *function) {
    char field[96];
    pthread_mutex_lock(&lock);
    read_control();
    snprintf(field, sizeof field, "sleep:%s", function);
    const char *seconds = find(&everywhere, field);
    double wait = seconds ? atof(seconds) : 0;
    pthread_mutex_unlock(&lock);
    if (wait > 0) usleep((useconds_t)(wait * 1e6));
    pthread_mutex_lock(&lock);
}

static int done(int code) {
    pthread_mutex_unlock(&lock);
    return begun ? code : UNINITIALIZED;
}

static int give_uint(const char *function, Device *device, const char *field, uint *to) {
    wide value = 0;
    enter(function);
    int code = number(device, field, &value);
    if (!code) *to = (uint)value;
    return done(code);
}

static int give_wide(const char *function, Device *device, const char *field, wide *to) {
    enter(function);
    return done(number(device, field, to));
}

static int give_text(const char *function, Device *device, const char *field, char *to, uint size) {
    const char *found;
    enter(function);
    int code = device == &everywhere ? code_of(found = find(device, field)) : text(device, field, &found);
    if (!code) snprintf(to, size, "%s", found);
    return done(code);
}

#define UINT(function, field) int function(Device *device, uint *to) { return give_uint(#function, device, field, to); }
#define WIDE(function, field) int function(Device *device, wide *to) { return give_wide(#function, device, field, to); }
#define TEXT(function, field) \
    int function(Device *device, char *to, uint size) { return give_text(#function, device, field, to, size); }

/* The library and its devices */

int nvmlInitWithFlags(uint flags) {
    (void)flags;
    enter("nvmlInitWithFlags");
    const char *driver = find(&everywhere, "driver");
    int code = !driver ? SUCCESS : *driver == '!' ? code_of(driver) : DRIVER_NOT_LOADED;
    begun = code == SUCCESS;
    pthread_mutex_unlock(&lock);
    return code;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { enter("nvmlShutdown"); int code = done(SUCCESS); begun = 0; return code; }
const char *nvmlErrorString(int code) { (void)code; return "An error of the stub"; }
int nvml_stub_marker(void) { return 1; }

int nvmlSystemGetDriverVersion(char *to, uint size) {
    return give_text("nvmlSystemGetDriverVersion", &everywhere, "driver_version", to, size);
}
int nvmlSystemGetCudaDriverVersion_v2(int *to) {
    char found[96];
    int code = give_text("nvmlSystemGetCudaDriverVersion_v2", &everywhere, "cuda_version", found, sizeof found);
    if (!code) *to = atoi(found);
    return code;
}
int nvmlDeviceGetCount_v2(uint *to) {
    enter("nvmlDeviceGetCount_v2");
    *to = 0;
    for (uint n = 0; n < DEVICES; n++) if (devices[n][WHOLE].count) *to = n + 1;
    return done(SUCCESS);
}
int nvmlDeviceGetHandleByIndex_v2(uint index, Device **to) {
    enter("nvmlDeviceGetHandleByIndex_v2");
    if (index >= DEVICES || !devices[index][WHOLE].count) return done(INVALID_ARGUMENT);
    *to = &devices[index][WHOLE];
    wide unused;
    int code = number(*to, "handle", &unused);
    return done(code == NOT_SUPPORTED ? SUCCESS : code);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device **to) {
    enter("nvmlDeviceGetHandleByUUID");
    for (int n = 0; n < DEVICES; n++) for (int m = 0; m <= INSTANCES; m++) {
        const char *found;
        if (devices[n][m].count && !text(*to = &devices[n][m], "uuid", &found) && !strcmp(found, uuid)) return done(SUCCESS);
    }
    return done(NOT_FOUND);
}
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetName, "name")

typedef struct { char legacy[16]; uint domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(Device *device, Pci *to) {
    memset(to, 0, sizeof *to);
    return give_text("nvmlDeviceGetPciInfo_v3", device, "pci_bus_id", to->bus_id, sizeof to->bus_id);
}

/* MIG */

int nvmlDeviceGetMigMode(Device *device, uint *current, uint *pending) {
    *pending = 0;
    return give_uint("nvmlDeviceGetMigMode", device, "mig_mode", current);
}
int nvmlDeviceGetMaxMigDeviceCount(Device *device, uint *to) {
    uint mode = 0;
    int code = give_uint("nvmlDeviceGetMaxMigDeviceCount", device, "mig_mode", &mode);
    *to = mode ? INSTANCES : 0;
    return code;
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, uint index, Device **to) {
    enter("nvmlDeviceGetMigDeviceHandleByIndex");
    if (index >= INSTANCES || !(*to = device + 1 + index)->count) return done(NOT_FOUND);
    return done(SUCCESS);
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *device, Device **to) {
    enter("nvmlDeviceGetDeviceHandleFromMigDeviceHandle");
    *to = whole(device);
    return done(SUCCESS);
}
UINT(nvmlDeviceGetGpuInstanceId, "gpu_instance")
UINT(nvmlDeviceGetComputeInstanceId, "compute_instance")

/* Values */

int nvmlDeviceGetUtilizationRates(Device *device, uint *to) {
    int code = give_uint("nvmlDeviceGetUtilizationRates", device, "utilization", &to[0]);
    return code ? code : give_uint("", device, "memory_controller_utilization", &to[1]);
}
int nvmlDeviceGetMemoryInfo(Device *device, wide *to) { /* total, free, used */
    int code = give_wide("nvmlDeviceGetMemoryInfo", device, "memory_used_bytes", &to[2]);
    if (!code) code = give_wide("", device, "memory_total_bytes", &to[0]);
    if (!code) to[1] = to[0] - to[2];
    return code;
}
UINT(nvmlDeviceGetPowerUsage, "power_milliwatts")
UINT(nvmlDeviceGetEnforcedPowerLimit, "power_limit_milliwatts")
WIDE(nvmlDeviceGetTotalEnergyConsumption, "energy_millijoules")
UINT(nvmlDeviceGetFanSpeed, "fan_percent")
UINT(nvmlDeviceGetPerformanceState, "performance_state")
UINT(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation")
UINT(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
UINT(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_max_generation")
UINT(nvmlDeviceGetMaxPcieLinkWidth, "pcie_max_width")
UINT(nvmlDeviceGetPcieReplayCounter, "pcie_replays")
WIDE(nvmlDeviceGetCurrentClocksThrottleReasons, "clocks_event_reasons")
WIDE(nvmlDeviceGetSupportedClocksThrottleReasons, "supported_clocks_event_reasons")

int nvmlDeviceGetTemperature(Device *device, int sensor, uint *to) {
    (void)sensor;
    return give_uint("nvmlDeviceGetTemperature", device, "temperature", to);
}
static int give_one_of(const char *function, Device *device, const char *field, int which, wide *to) {
    char name[56];
    snprintf(name, sizeof name, "%s_%d", field, which);
    return give_wide(function, device, name, to);
}
#define CHOSEN(function, field) \
    int function(Device *device, int which, uint *to) { \
        wide value; \
        int code = give_one_of(#function, device, field, which, &value); \
        if (!code) *to = (uint)value; \
        return code; \
    }
CHOSEN(nvmlDeviceGetClockInfo, "clock")
CHOSEN(nvmlDeviceGetMaxClockInfo, "max_clock")
CHOSEN(nvmlDeviceGetPcieThroughput, "pcie_throughput")

int nvmlDeviceGetTotalEccErrors(Device *device, int type, int counter, wide *to) {
    return give_one_of("nvmlDeviceGetTotalEccErrors", device, counter ? "ecc_aggregate" : "ecc", type, to);
}
int nvmlDeviceGetEncoderUtilization(Device *device, uint *to, uint *period) {
    *period = 1000000;
    return give_uint("nvmlDeviceGetEncoderUtilization", device, "encoder", to);
}
int nvmlDeviceGetDecoderUtilization(Device *device, uint *to, uint *period) {
    *period = 1000000;
    return give_uint("nvmlDeviceGetDecoderUtilization", device, "decoder", to);
}

typedef struct { uint field, scope; long long timestamp, latency; int type, code; union { double real; wide whole; } value; } Field;
int nvmlDeviceGetFieldValues(Device *device, int count, Field *fields) {
    enter("nvmlDeviceGetFieldValues");
    const char *everything = find(whole(device), "all");
    for (int i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "field_%u", fields[i].field);
        fields[i].code = number(device, name, &fields[i].value.whole);
        fields[i].type = fields[i].field == 82 ? 1 : 3; /* unsigned int, whose other half holds anything; or long long */
        if (fields[i].type == 1) fields[i].value.whole |= 0xBADULL << 32;
    }
    return done(everything ? code_of(everything) : SUCCESS);
}

/* Processes: `<device> process <pid> <kind> <bytes> <sm percent> <timestamp>`; `-` is what is not known. */

typedef struct { uint pid; wide used; uint gpu_instance, compute_instance; } Process;
typedef struct { uint pid; wide timestamp; uint sm, memory, encoder, decoder; } Utilization;
typedef struct { uint pid; char kind[16], bytes[24], sm[16]; wide timestamp; } Listed;

static int list_processes(Device *device, const char *kind, Listed *to) {
    int found = 0;
    for (int i = 0; i < device->count && found < LINES; i++) {
        Listed *one = &to[found];
        if (strcmp(device->lines[i].field, "process")) continue;
        sscanf(device->lines[i].value, "%u %15s %23s %15s %llu", &one->pid, one->kind, one->bytes, one->sm, &one->timestamp);
        found += !kind || !strcmp(kind, one->kind);
    }
    return found;
}

static int give_processes(const char *function, Device *device, const char *kind, uint *count, Process *to) {
    Listed listed[LINES];
    const char *unused;
    enter(function);
    int code = text(device, kind, &unused);
    if (code && code != NOT_SUPPORTED) return done(code);
    if (find(device, "processes")) return done(code_of(find(device, "processes")));
    uint room = *count, found = (uint)list_processes(device, kind, listed);
    *count = found;
    if (found > room || (found && !to)) return done(INSUFFICIENT_SIZE);
    for (uint i = 0; i < found; i++) {
        to[i].pid = listed[i].pid;
        to[i].used = *listed[i].bytes == '-' ? ~0ULL : strtoull(listed[i].bytes, NULL, 0);
    }
    return done(SUCCESS);
}
#define PROCESSES(function, kind) \
    int function(Device *device, uint *count, Process *to) { return give_processes(#function, device, kind, count, to); }
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics")

int nvmlDeviceGetProcessUtilization(Device *device, Utilization *to, uint *count, wide since) {
    Listed listed[LINES];
    enter("nvmlDeviceGetProcessUtilization");
    const char *everything = find(whole(device), "all"), *own = find(device, "process_utilization");
    if (everything || own) return done(code_of(everything ? everything : own));
    uint room = *count, found = 0, all = (uint)list_processes(device, NULL, listed);
    for (uint i = 0; i < all; i++) {
        if (*listed[i].sm == '-' || listed[i].timestamp <= since) continue;
        if (to && found < room) to[found] = (Utilization){listed[i].pid, listed[i].timestamp, (uint)atoi(listed[i].sm), 1, 2, 3};
        found++;
    }
    *count = found;
    return done(!found ? NOT_FOUND : to && found <= room ? SUCCESS : INSUFFICIENT_SIZE);
}

#ifndef OLD_DRIVER
WIDE(nvmlDeviceGetCurrentClocksEventReasons, "clocks_event_reasons")
WIDE(nvmlDeviceGetSupportedClocksEventReasons, "supported_clocks_event_reasons")
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
UINT(nvmlDeviceGetPcieSpeed, "pcie_speed")
UINT(nvmlDeviceGetPcieLinkMaxSpeed, "pcie_max_speed")

/* GPM: what lies between two samples, in their order, of one device. `gpm_<metric> <value>` as the later one is taken. */

typedef struct { Device *device; wide order; } Sample;
typedef struct { uint metric; int code; double value; const char *names[3]; } Metric;
typedef struct { uint version, count; Sample *first, *second; Metric metrics[]; } Between;
static wide samples;

int nvmlGpmQueryDeviceSupport(Device *device, uint *to) { /* version, supported */
    wide value = 0;
    enter("nvmlGpmQueryDeviceSupport");
    int code = number(device, "gpm", &value);
    to[1] = (uint)value;
    return done(code);
}
int nvmlGpmSampleAlloc(Sample **to) { *to = calloc(1, sizeof **to); return SUCCESS; }
int nvmlGpmSampleFree(Sample *sample) { free(sample); return SUCCESS; }
static int take_sample(const char *function, Device *device, Sample *to) {
    wide unused = 0;
    enter(function);
    int code = number(device, "gpm_sample", &unused);
    *to = (Sample){device, ++samples};
    return done(code == NOT_SUPPORTED ? SUCCESS : code);
}
int nvmlGpmSampleGet(Device *device, Sample *to) { return take_sample("nvmlGpmSampleGet", device, to); }
int nvmlGpmMigSampleGet(Device *device, uint gpu_instance, Sample *to) {
    for (Device *instance = device + 1; instance <= device + INSTANCES; instance++) {
        const char *found = find(instance, "gpu_instance");
        if (found && (uint)atoi(found) == gpu_instance) return take_sample("nvmlGpmMigSampleGet", instance, to);
    }
    return INVALID_ARGUMENT;
}
int nvmlGpmMetricsGet(Between *between) {
    enter("nvmlGpmMetricsGet");
    Device *device = between->second->device;
    if (between->version != 1 || between->first->device != device || between->first->order >= between->second->order)
        return done(INVALID_ARGUMENT);
    for (uint i = 0; i < between->count; i++) {
        char name[24];
        const char *found;
        snprintf(name, sizeof name, "gpm_%u", between->metrics[i].metric);
        between->metrics[i].code = text(device, name, &found);
        if (!between->metrics[i].code) between->metrics[i].value = atof(found);
    }
    return done(SUCCESS);
}
#endif
