package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/config"
	"jmlbridge/internal/liveness"
	"jmlbridge/internal/program"
	"jmlbridge/producer/midpoint"
)

func (a *app) midpointCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "midpoint",
		Short: "A queue server for those who have none",
		Long: `midpoint is a NATS JetStream server in this program: TLS, accounts and two credentials of its own for each
enclave, every message synced to disk before it is confirmed, nothing deleted or purged by a client. It is
not trusted by either side: whoever runs it can make messages late, not wrong.

It has its own configuration and can run on a machine of its own. Past one machine, three stock
NATS servers do the same: see producer/nats.`,
		GroupID: "setup",
		Args:    command.NoArgs,
		RunE:    command.Help,
	}
	var setup midpoint.Setup
	initCmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a mid-point: certificates, credentials, store and configuration",
		Long: `init makes DIR, which must not exist: midpoint/ stays with the server, ca/ holds the authority's key (keep
it offline), producer/NAME and consumer/NAME are carried to where they are used. One that was killed is named by the
next one, with the folder that it left.`,
		Example: `  producer midpoint init /srv/midpoint --host queue.mssp.example --enclave GOV-1`,
		Args:    command.Exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(setup.Hosts) == 0 || len(setup.Enclaves) == 0 {
				return command.Usagef("midpoint init: want at least one --host and one --enclave")
			}
			made, err := midpoint.Init(cmd.Context(), args[0], setup, a.logger())
			if err != nil {
				return command.Misusef("%w", err)
			}
			fmt.Fprintf(a.out, "Made a mid-point. Run it with: producer midpoint run %s\n", made.Config)
			return a.printMade(made)
		},
	}
	initCmd.Flags().StringArrayVar(&setup.Hosts, "host", nil, "DNS `name` or address by which clients reach it; may be repeated, the first goes into their settings")
	initCmd.Flags().StringVar(&setup.Listen, "listen", ":4222", "`host:port` to listen on")
	initCmd.Flags().StringArrayVar(&setup.Enclaves, "enclave", nil, "short `name` of an enclave, A-Z 0-9 and -; may be repeated")

	initCmd.Flags().BoolVar(&setup.Dark, "dark", false, "the enclaves only read: nothing is acknowledged, messages go by age")

	runCmd := &cobra.Command{
		Use:     "run FILE",
		Short:   "Serve until stopped",
		Example: `  producer midpoint run /srv/midpoint/midpoint/midpoint.yaml`,
		Args:    command.Exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, file, err := midpointConfig(args[0])
			if err != nil {
				return err
			}
			return placed(file, midpoint.Run(cmd.Context(), cfg, a.logger()))
		},
	}

	var dir, url string
	var dark bool
	addCmd := &cobra.Command{
		Use:     "add FILE NAME",
		Short:   "Add an enclave to a mid-point that is stopped",
		Example: `  producer midpoint add /srv/midpoint/midpoint/midpoint.yaml GOV-2 --into /srv/midpoint --url tls://queue.mssp.example:4222`,
		Args:    command.Exactly("FILE", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" || url == "" {
				return command.Usagef("midpoint add: want --into and --url")
			}
			cfg, file, err := midpointConfig(args[0])
			if err != nil {
				return err
			}
			made, err := midpoint.Add(cmd.Context(), dir, cfg, args[1], url, dark, a.logger())
			if err != nil {
				return command.Misusef("%w", placed(file, err))
			}
			text, err := yaml.Marshal(made.Enclaves)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "Put under enclaves: in %s, then start it:\n%s", args[0], text)
			return a.printMade(made)
		},
	}
	addCmd.Flags().StringVar(&dir, "into", "", "`folder` for the credentials: the one that init made")
	addCmd.Flags().BoolVar(&dark, "dark", false, "the enclave only reads: nothing is acknowledged, messages go by age")
	addCmd.Flags().StringVar(&url, "url", "", "`URL` by which clients reach the mid-point, tls://host:port")

	renewCmd := &cobra.Command{
		Use:     "renew FILE CA",
		Short:   "Make a new server certificate with the authority's key in folder CA",
		Long:    "renew replaces the server certificate before it runs out. A running server takes it up by itself.",
		Example: `  producer midpoint renew /srv/midpoint/midpoint/midpoint.yaml /media/offline/ca`,
		Args:    command.Exactly("FILE", "CA"),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, file, err := midpointConfig(args[0])
			if err != nil {
				return err
			}
			return placed(file, midpoint.Renew(cfg, args[1], a.now()))
		},
	}
	aliveCmd := &cobra.Command{
		Use:     "alive FILE",
		Short:   "Say by the exit code whether the mid-point works, from its liveness file",
		Example: `  producer midpoint alive /srv/midpoint/midpoint/midpoint.yaml`,
		Args:    command.Exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, _, err := midpointConfig(args[0])
			if err != nil {
				return err
			}
			return liveness.Check(cfg.Liveness, a.now())
		},
	}
	cmd.AddCommand(initCmd, runCmd, aliveCmd, addCmd, renewCmd)
	return cmd
}

func midpointConfig(name string) (cfg midpoint.Config, file *config.File, err error) {
	if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
		return cfg, nil, command.Misusef("%s: no such file; want the %s that midpoint init made", name, midpoint.ConfigFile)
	}
	if file, err = config.Load(name, &cfg); err != nil {
		return cfg, nil, err
	}
	return cfg.In(filepath.Dir(name)), file, nil
}

// placed names file and line of the setting that the mid-point refuses.
func placed(file *config.File, err error) error {
	var refused *midpoint.RefusedError
	if errors.As(err, &refused) && refused.Setting != "" {
		return file.Errorf("$."+refused.Setting, "%s", refused.Reason)
	}
	return err
}

// printMade lists the folders to carry away.
func (a *app) printMade(m *midpoint.Made) error {
	var rows [][]string
	for name, dir := range m.Producers {
		rows = append(rows, []string{name, dir, m.Consumers[name]})
	}
	slices.SortFunc(rows, slices.Compare[[]string])
	if m.CA != "" {
		fmt.Fprintf(a.out, "Keep offline: %s\n", m.CA)
	}
	return program.Table(a.out, []string{"ENCLAVE", "CARRY TO THE PRODUCER", "CARRY TO THE ENCLAVE"}, rows)
}
