// A Service Bus Premium namespace as the mid-point of one bridge: one plain queue for each enclave, and for each side
// a right that reaches no further than its own direction on its own queue. The same file serves Azure and Azure
// Government: the cloud is the one that `az` is logged in to. README.md beside this file says why each value is what
// it is, and what to look up on the live pages first.

@description('Name of the namespace, 6 to 50 characters; it becomes NAME.servicebus.windows.net or NAME.servicebus.usgovcloudapi.net.')
@minLength(6)
@maxLength(50)
param namespaceName string

@description('Region. In Azure Government: usgovvirginia, usgovarizona or usgovtexas; for DoD usdodcentral or usdodeast.')
param location string = resourceGroup().location

@description('Queue of the enclave, for example jml-gov-1.')
@minLength(1)
@maxLength(260)
param queueName string

@description('Messaging units. One carries a bridge many times over; measure before you buy more.')
@allowed([1, 2, 4, 8, 16])
param messagingUnits int = 1

@description('Spread over availability zones. Not every region has them.')
param zoneRedundant bool = true

@description('Object id of the identity of the producer in the namespace\'s own tenant. Empty: none, see sharedAccess.')
param producerPrincipalId string = ''

@description('Object id of the identity of the consumer in the namespace\'s own tenant. Empty: none, see sharedAccess.')
param consumerPrincipalId string = ''

@description('Make one send-only and one listen-only shared access policy on the queue, for a side that has no identity in the namespace\'s tenant. Otherwise shared keys are switched off altogether.')
param sharedAccess bool = false

@description('Networks that may reach the namespace by its public address, as CIDR. None, with a private endpoint instead, closes that address.')
param allowedNetworks array = []

@description('Private endpoints, one for each network that is to reach the namespace by a private address: name, subnetId, and dnsZoneId of the zone privatelink.servicebus.windows.net or privatelink.servicebus.usgovcloudapi.net that this network asks (empty where its names are kept by other means).')
param privateEndpoints array = []

@description('The enclave pulls dark: it looks and settles nothing. Then what expires is dropped and not dead-lettered, since nobody would ever empty that.')
param pullsDark bool = false

@description('Resource id of the Log Analytics workspace that gets the diagnostic logs. Empty: none.')
param workspaceId string = ''

// Built-in roles; their ids are the same in every cloud.
var dataSender = '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39'
var dataReceiver = '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'

resource bus 'Microsoft.ServiceBus/namespaces@2021-11-01' = {
  name: namespaceName
  location: location
  sku: {
    name: 'Premium'
    tier: 'Premium'
    capacity: messagingUnits
  }
  properties: {
    zoneRedundant: zoneRedundant
    disableLocalAuth: !sharedAccess
  }
}

resource queue 'Microsoft.ServiceBus/namespaces/queues@2021-11-01' = {
  parent: bus
  name: queueName
  properties: {
    lockDuration: 'PT1M'
    maxDeliveryCount: 100
    requiresDuplicateDetection: true
    duplicateDetectionHistoryTimeWindow: 'P7D'
    defaultMessageTimeToLive: 'P14D'
    deadLetteringOnMessageExpiration: !pullsDark
    maxSizeInMegabytes: 81920
    requiresSession: false
    enablePartitioning: false
    enableBatchedOperations: true
  }
}

resource sendOnly 'Microsoft.ServiceBus/namespaces/queues/authorizationRules@2021-11-01' = if (sharedAccess) {
  parent: queue
  name: 'producer-send'
  properties: {
    rights: ['Send']
  }
}

resource listenOnly 'Microsoft.ServiceBus/namespaces/queues/authorizationRules@2021-11-01' = if (sharedAccess) {
  parent: queue
  name: 'consumer-listen'
  properties: {
    rights: ['Listen']
  }
}

resource producerSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(producerPrincipalId)) {
  scope: queue
  name: guid(queue.id, producerPrincipalId, dataSender)
  properties: {
    principalId: producerPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
  }
}

resource consumerListens 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(consumerPrincipalId)) {
  scope: queue
  name: guid(queue.id, consumerPrincipalId, dataReceiver)
  properties: {
    principalId: consumerPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataReceiver)
  }
}

resource network 'Microsoft.ServiceBus/namespaces/networkRuleSets@2021-11-01' = {
  parent: bus
  name: 'default'
  properties: {
    publicNetworkAccess: empty(allowedNetworks) ? 'Disabled' : 'Enabled'
    defaultAction: 'Deny'
    trustedServiceAccessEnabled: false
    ipRules: [for prefix in allowedNetworks: {
      ipMask: prefix
      action: 'Allow'
    }]
  }
}

resource endpoints 'Microsoft.Network/privateEndpoints@2021-05-01' = [for e in privateEndpoints: {
  name: '${namespaceName}-${e.name}'
  location: location
  properties: {
    subnet: {
      id: e.subnetId
    }
    privateLinkServiceConnections: [
      {
        name: '${namespaceName}-${e.name}'
        properties: {
          privateLinkServiceId: bus.id
          groupIds: ['namespace']
        }
      }
    ]
  }
}]

resource names 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2021-05-01' = [for (e, i) in privateEndpoints: if (!empty(e.dnsZoneId)) {
  parent: endpoints[i]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: 'servicebus'
        properties: {
          privateDnsZoneId: e.dnsZoneId
        }
      }
    ]
  }
}]

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(workspaceId)) {
  scope: bus
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

output namespace string = bus.name
output queue string = queue.name
