"""The structs that Docker's command reads the daemon's answers into (moby, api/types, of API 1.50), as Go writes them.

`names type; names type`, in Go's order; `ID=Id` where JSON calls the field otherwise, `- type` is an embedded struct.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


class Field(NamedTuple):
    """`name` is "" where the type is embedded."""

    name: str
    key: str
    type: str


@cache
def fields(name: str) -> tuple[Field, ...]:
    """The fields of a struct of STRUCTS."""
    found = []
    for line in filter(None, STRUCTS[name].split(";")):
        *names, kind = line.split()
        for one in names:
            shown, _, key = one.partition("=")
            found.append(Field("", "", kind) if one == "-" else Field(shown, key or shown, kind))
    return tuple(found)


STRUCTS = {
    # --- containers ---
    "container.InspectResponse": """- *container.ContainerJSONBase; Mounts []container.MountPoint;
        Config *container.Config; NetworkSettings *container.NetworkSettings; ImageManifestDescriptor *v1.Descriptor""",
    "container.ContainerJSONBase": """ID=Id Created Path string; Args []string; State *container.State; Image
        ResolvConfPath HostnamePath HostsPath LogPath Name string; RestartCount int; Driver Platform MountLabel
        ProcessLabel AppArmorProfile string; ExecIDs []string; HostConfig *container.HostConfig;
        GraphDriver storage.DriverData; SizeRw SizeRootFs *int""",
    "container.State": """Status string; Running Paused Restarting OOMKilled Dead bool; Pid ExitCode int;
        Error StartedAt FinishedAt string; Health *container.Health""",
    "container.Health": "Status string; FailingStreak int; Log []*container.HealthcheckResult",
    "container.HealthcheckResult": "Start End time.Time; ExitCode int; Output string",
    "container.MountPoint": """Type mount.Type; Name Source Destination Driver Mode string; RW bool;
        Propagation mount.Propagation""",
    "container.Config": """Hostname Domainname User string; AttachStdin AttachStdout AttachStderr bool;
        ExposedPorts map[nat.Port]struct{}; Tty OpenStdin StdinOnce bool; Env Cmd []string;
        Healthcheck *v1.HealthcheckConfig; ArgsEscaped bool; Image string; Volumes map[string]struct{};
        WorkingDir string; Entrypoint []string; NetworkDisabled bool; MacAddress string; OnBuild []string;
        Labels map[string]string; StopSignal string; StopTimeout *int; Shell []string""",
    "v1.HealthcheckConfig": "Test []string; Interval Timeout StartPeriod StartInterval time.Duration; Retries int",
    "container.HostConfig": """Binds []string; ContainerIDFile string; LogConfig container.LogConfig;
        NetworkMode container.NetworkMode; PortBindings map[nat.Port][]nat.PortBinding;
        RestartPolicy container.RestartPolicy; AutoRemove bool; VolumeDriver string; VolumesFrom []string;
        ConsoleSize []int; Annotations map[string]string; CapAdd CapDrop []string; CgroupnsMode container.CgroupnsMode;
        DNS=Dns DNSOptions=DnsOptions DNSSearch=DnsSearch ExtraHosts GroupAdd []string; IpcMode container.IpcMode;
        Cgroup container.CgroupSpec; Links []string; OomScoreAdj int; PidMode container.PidMode;
        Privileged PublishAllPorts ReadonlyRootfs bool; SecurityOpt []string; StorageOpt Tmpfs map[string]string;
        UTSMode container.UTSMode; UsernsMode container.UsernsMode; ShmSize int; Sysctls map[string]string;
        Runtime string; Isolation container.Isolation; - container.Resources; Mounts []mount.Mount;
        MaskedPaths ReadonlyPaths []string; Init *bool""",
    "container.Resources": """CPUShares=CpuShares Memory NanoCPUs=NanoCpus int; CgroupParent string; BlkioWeight int;
        BlkioWeightDevice []*blkiodev.WeightDevice; BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps
        BlkioDeviceWriteIOps []*blkiodev.ThrottleDevice; CPUPeriod=CpuPeriod CPUQuota=CpuQuota
        CPURealtimePeriod=CpuRealtimePeriod CPURealtimeRuntime=CpuRealtimeRuntime int; CpusetCpus CpusetMems string;
        Devices []container.DeviceMapping; DeviceCgroupRules []string; DeviceRequests []container.DeviceRequest;
        KernelMemory KernelMemoryTCP MemoryReservation MemorySwap int; MemorySwappiness *int; OomKillDisable *bool;
        PidsLimit *int; Ulimits []*units.Ulimit; CPUCount=CpuCount CPUPercent=CpuPercent IOMaximumIOps
        IOMaximumBandwidth int""",
    "container.LogConfig": "Type string; Config map[string]string",
    "container.RestartPolicy": "Name container.RestartPolicyMode; MaximumRetryCount int",
    "container.DeviceMapping": "PathOnHost PathInContainer CgroupPermissions string",
    "container.DeviceRequest": """Driver string; Count int; DeviceIDs []string; Capabilities [][]string;
        Options map[string]string""",
    "blkiodev.WeightDevice": "Path string; Weight int",
    "blkiodev.ThrottleDevice": "Path string; Rate int",
    "units.Ulimit": "Name string; Hard Soft int",
    "nat.PortBinding": "HostIP=HostIp HostPort string",
    "mount.Mount": """Type mount.Type; Source Target string; ReadOnly bool; Consistency mount.Consistency;
        BindOptions *mount.BindOptions; VolumeOptions *mount.VolumeOptions; ImageOptions *mount.ImageOptions;
        TmpfsOptions *mount.TmpfsOptions; ClusterOptions *mount.ClusterOptions""",
    "mount.BindOptions": """Propagation mount.Propagation; NonRecursive CreateMountpoint ReadOnlyNonRecursive
        ReadOnlyForceRecursive bool""",
    "mount.VolumeOptions": "NoCopy bool; Labels map[string]string; Subpath string; DriverConfig *mount.Driver",
    "mount.ImageOptions": "Subpath string",
    "mount.TmpfsOptions": "SizeBytes int; Mode os.FileMode; Options [][]string",
    "mount.ClusterOptions": "",
    "mount.Driver": "Name string; Options map[string]string",
    "container.NetworkSettings": """- container.NetworkSettingsBase; - container.DefaultNetworkSettings;
        Networks map[string]*network.EndpointSettings""",
    "container.NetworkSettingsBase": """Bridge SandboxID SandboxKey string; Ports map[nat.Port][]nat.PortBinding;
        HairpinMode bool; LinkLocalIPv6Address string; LinkLocalIPv6PrefixLen int;
        SecondaryIPAddresses SecondaryIPv6Addresses []network.Address""",
    "container.DefaultNetworkSettings": """EndpointID Gateway GlobalIPv6Address string; GlobalIPv6PrefixLen int;
        IPAddress string; IPPrefixLen int; IPv6Gateway MacAddress string""",
    "network.Address": "Addr string; PrefixLen int",
    "network.EndpointSettings": """IPAMConfig *network.EndpointIPAMConfig; Links Aliases []string; MacAddress string;
        DriverOpts map[string]string; GwPriority int; NetworkID EndpointID Gateway IPAddress string; IPPrefixLen int;
        IPv6Gateway GlobalIPv6Address string; GlobalIPv6PrefixLen int; DNSNames []string""",
    "network.EndpointIPAMConfig": "IPv4Address IPv6Address string; LinkLocalIPs []string",
    "v1.Descriptor": """MediaType=mediaType string; Digest=digest digest.Digest; Size=size int; URLs=urls []string;
        Annotations=annotations map[string]string; Data=data []any; Platform=platform *v1.Platform;
        ArtifactType=artifactType string""",
    "v1.Platform": """Architecture=architecture OS=os OSVersion=os.version string; OSFeatures=os.features []string;
        Variant=variant string""",
    # --- images, networks, volumes ---
    "image.InspectResponse": """ID=Id string; RepoTags RepoDigests []string; Parent Comment Created Container string;
        ContainerConfig *container.Config; DockerVersion Author string; Config *v1.DockerOCIImageConfig;
        Architecture Variant Os OsVersion string; Size VirtualSize int; GraphDriver storage.DriverData;
        RootFS image.RootFS; Metadata image.Metadata; Descriptor *v1.Descriptor; Manifests []any""",
    "v1.DockerOCIImageConfig": "- v1.ImageConfig; - v1.DockerOCIImageConfigExt",
    "v1.ImageConfig": """User string; ExposedPorts map[string]struct{}; Env Entrypoint Cmd []string;
        Volumes map[string]struct{}; WorkingDir string; Labels map[string]string; StopSignal string;
        ArgsEscaped bool""",
    "v1.DockerOCIImageConfigExt": "Healthcheck *v1.HealthcheckConfig; OnBuild Shell []string",
    "storage.DriverData": "Data map[string]string; Name string",
    "image.RootFS": "Type string; Layers []string",
    "image.Metadata": "LastTagTime time.Time",
    "network.Inspect": """Name ID=Id string; Created time.Time; Scope Driver string; EnableIPv4 EnableIPv6 bool;
        IPAM network.IPAM; Internal Attachable Ingress bool; ConfigFrom network.ConfigReference; ConfigOnly bool;
        Containers map[string]network.EndpointResource; Options Labels map[string]string; Peers []network.PeerInfo;
        Services map[string]any""",
    "network.IPAM": "Driver string; Options map[string]string; Config []network.IPAMConfig",
    "network.IPAMConfig": "Subnet IPRange Gateway string; AuxAddress=AuxiliaryAddresses map[string]string",
    "network.ConfigReference": "Network string",
    "network.EndpointResource": "Name EndpointID MacAddress IPv4Address IPv6Address string",
    "network.PeerInfo": "Name IP string",
    "volume.Volume": """ClusterVolume *volume.ClusterVolume; CreatedAt Driver string; Labels map[string]string;
        Mountpoint Name string; Options map[string]string; Scope string; Status map[string]any;
        UsageData *volume.UsageData""",
    "volume.UsageData": "RefCount Size int",
    "volume.ClusterVolume": "ID string",
    # --- version, info ---
    "types.Version": """Platform types.Platform; Components []types.ComponentVersion; Version APIVersion=ApiVersion
        MinAPIVersion GitCommit GoVersion Os Arch KernelVersion string; Experimental bool; BuildTime string""",
    "types.Platform": "Name string",
    "types.ComponentVersion": "Name Version string; Details map[string]string",
    "system.versionInfo": "Client system.clientVersion; Server *types.Version",
    "system.clientVersion": """Platform *system.platformInfo; Version APIVersion=ApiVersion DefaultAPIVersion GitCommit
        GoVersion Os Arch BuildTime Context string""",
    "system.platformInfo": "Name string",
    "system.dockerInfo": """- *system.Info; ServerErrors []string; UserName string; ClientInfo *system.clientInfo;
        ClientErrors []string""",
    "system.sparseInfo": "ClientInfo *system.clientInfo; ClientErrors []string",
    "system.clientInfo": "Debug bool; - system.clientVersion; Plugins []any; Warnings []string",
    "system.Info": """ID string; Containers ContainersRunning ContainersPaused ContainersStopped Images int;
        Driver string; DriverStatus SystemStatus [][]string; Plugins system.PluginsInfo; MemoryLimit SwapLimit
        KernelMemory KernelMemoryTCP CPUCfsPeriod=CpuCfsPeriod CPUCfsQuota=CpuCfsQuota CPUShares CPUSet PidsLimit
        IPv4Forwarding Debug bool; NFd int; OomKillDisable bool; NGoroutines int; SystemTime LoggingDriver CgroupDriver
        CgroupVersion string; NEventsListener int; KernelVersion OperatingSystem OSVersion OSType Architecture
        IndexServerAddress string; RegistryConfig *registry.ServiceConfig; NCPU MemTotal int; GenericResources []any;
        DockerRootDir HTTPProxy=HttpProxy HTTPSProxy=HttpsProxy NoProxy Name string; Labels []string;
        ExperimentalBuild bool; ServerVersion string; Runtimes map[string]system.RuntimeWithStatus;
        DefaultRuntime string; Swarm swarm.Info; LiveRestoreEnabled bool; Isolation container.Isolation;
        InitBinary string; ContainerdCommit RuncCommit InitCommit system.Commit; SecurityOptions []string;
        ProductLicense string; DefaultAddressPools []system.NetworkAddressPool; FirewallBackend *system.FirewallInfo;
        CDISpecDirs []string; DiscoveredDevices []system.DeviceInfo; Containerd *system.ContainerdInfo;
        Warnings []string""",
    "system.PluginsInfo": "Volume Network Authorization Log []string",
    "system.RuntimeWithStatus": "- system.Runtime; Status=status map[string]string",
    "system.Runtime": """Path=path string; Args=runtimeArgs []string; Type=runtimeType string;
        Options=options map[string]any""",
    "system.Commit": "ID Expected string",
    "system.NetworkAddressPool": "Base string; Size int",
    "system.FirewallInfo": "Driver string; Info [][]string",
    "system.DeviceInfo": "Source ID string",
    "system.ContainerdInfo": "Address string; Namespaces system.ContainerdNamespaces",
    "system.ContainerdNamespaces": "Containers Plugins string",
    "registry.ServiceConfig": """AllowNondistributableArtifactsCIDRs AllowNondistributableArtifactsHostnames
        InsecureRegistryCIDRs []any; IndexConfigs map[string]*registry.IndexInfo; Mirrors []string;
        ExtraFields map[string]any""",
    "registry.IndexInfo": "Name string; Mirrors []string; Secure Official bool",
    "swarm.Info": """NodeID NodeAddr string; LocalNodeState swarm.LocalNodeState; ControlAvailable bool; Error string;
        RemoteManagers []swarm.Peer; Nodes Managers int; Cluster *swarm.ClusterInfo; Warnings []string""",
    "swarm.Peer": "NodeID Addr string",
    "swarm.ClusterInfo": "ID string",
}  # fmt: skip
